import { RecoupError } from "../errors.js";
import { buildGraph, type Graph, type Node, type Value, type ValueName } from "../graph/graph.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ExternalLocation, ExternalReader } from "./external-data.js";
import { TensorAnnotationSchema } from "./gen/onnx_pb.js";
import { type BodyCodec, encodeNode, readNode } from "./node.js";
import { isSparseTensor, readSparseTensor } from "./sparse-tensor.js";
import { encodeTensor, isFileTensor, type NamedTensor, readTensor } from "./tensor.js";
import { encodeValue, readValue } from "./value.js";
import { bodyOf, type Chunk, chunkOf, cutRecords, decodeMessage, textOf, type WireRecord, wrapChunks } from "./wire.js";

/** Field numbers of `GraphProto`. */
const field = {
  node: 1,
  name: 2,
  initializer: 5,
  input: 11,
  output: 12,
  valueInfo: 13,
  quantizationAnnotation: 14,
  sparseInitializer: 15,
} as const;

/** What a graph was read from, to write back what nobody changed, record by record. */
interface GraphOrigin {
  graph?: Graph;
  readonly message: Uint8Array;
  readonly records: readonly WireRecord[];
}

/** Where the elements of an initializer go when they do not go into the model file. */
export type Placement = (name: ValueName, tensor: Tensor) => ExternalLocation | undefined;

/**
 * Reads a `GraphProto`, its subgraphs included.
 *
 * @throws RecoupError `onnx/malformed`, `onnx/unsupported`, `onnx/tensor`, `graph/invalid`
 */
export function readGraph(message: Uint8Array, path: string, external: ExternalReader, isNested: boolean): Graph {
  const records = cutRecords(message, path);
  const of = (wanted: number) => records.filter((record) => record.field === wanted);
  const bodies: BodyCodec = {
    read: (body, bodyPath) => readGraph(body, bodyPath, external, true),
    encode: (graph) => encodeGraph(graph, inlineAll),
  };
  const read = <Result>(wanted: number, kind: string, reader: (body: Uint8Array, path: string) => Result): Result[] =>
    of(wanted).map((record, i) => reader(bodyOf(record, `${path}.${kind}[${i}]`), `${path}.${kind}[${i}]`));
  const sparse = read(field.sparseInitializer, "sparse_initializer", (body, at) =>
    readSparseTensor(body, at, external),
  );
  const origin: GraphOrigin = { message, records };
  const graph = buildGraph(
    {
      name:
        of(field.name)
          .map((record) => textOf(record, path))
          .at(-1) ?? "",
      inputs: read(field.input, "input", readValue),
      outputs: read(field.output, "output", readValue),
      nodes: read(field.node, "node", (body, at) => readNode(body, at, external, bodies)),
      initializers: indexTensors([
        ...read(field.initializer, "initializer", (body, at) => readTensor(body, at, external)),
        ...sparse,
      ]),
      valueInfo: new Map(read(field.valueInfo, "value_info", readValue).map((value) => [value.name, value])),
      origin,
    },
    isNested,
  );
  origin.graph = graph;
  return graph;
}

/** The graph as a message: record by record as it was read, changed and new ones encoded. */
export function encodeGraph(graph: Graph, placement: Placement): readonly Chunk[] {
  const origin = graph.origin as GraphOrigin | undefined;
  if (origin?.graph === graph && placement === inlineAll) return [chunkOf(origin.message)];
  const writer = new GraphWriter(graph, placement);
  for (const record of origin?.records ?? []) writer.writeRecord(record);
  writer.writeRest();
  return writer.chunks;
}

export const inlineAll: Placement = () => undefined;

/**
 * Puts all nodes where the first node stood, all initializers where the first initializer stood, and so on; every other
 * record stays where it was.
 */
class GraphWriter {
  readonly chunks: Chunk[] = [];
  readonly #written = new Set<number>();
  readonly #graph: Graph;
  readonly #placement: Placement;

  constructor(graph: Graph, placement: Placement) {
    this.#graph = graph;
    this.#placement = placement;
  }

  writeRecord(record: WireRecord): void {
    switch (record.field) {
      case field.node:
      case field.initializer:
      case field.input:
      case field.output:
      case field.valueInfo:
        this.#writeField(record.field);
        return;
      case field.sparseInitializer:
        this.#writeSparse(record);
        return;
      case field.quantizationAnnotation:
        if (this.#graph.producer(annotated(record)) || this.#graph.initializers.has(annotated(record))) {
          this.chunks.push(chunkOf(record.raw));
        }
        return;
      default:
        this.chunks.push(chunkOf(record.raw));
    }
  }

  /** What the file had none of. A graph that never was a file has nothing written yet, its name included. */
  writeRest(): void {
    for (const number of [field.node, field.initializer, field.input, field.output, field.valueInfo]) {
      this.#writeField(number);
    }
    if (this.#graph.origin === undefined) {
      this.chunks.push(...wrapChunks(field.name, [chunkOf(new TextEncoder().encode(this.#graph.name || "graph"))]));
    }
  }

  #writeField(number: number): void {
    if (this.#written.has(number)) return;
    this.#written.add(number);
    const graph = this.#graph;
    const bodies: BodyCodec = { read: unreachable, encode: (body) => encodeGraph(body, inlineAll) };
    const messages: Readonly<Record<number, () => readonly (readonly Chunk[])[]>> = {
      [field.node]: () => graph.nodes.map((node: Node) => encodeNode(node, bodies)),
      [field.initializer]: () => this.#initializers(),
      [field.input]: () => graph.inputs.map(encodeDeclared),
      [field.output]: () => graph.outputs.map(encodeDeclared),
      [field.valueInfo]: () => [...graph.valueInfo.values()].map(encodeDeclared),
    };
    for (const message of messages[number]()) this.chunks.push(...wrapChunks(number, message));
  }

  #initializers(): readonly (readonly Chunk[])[] {
    const messages: (readonly Chunk[])[] = [];
    for (const [name, tensor] of this.#graph.initializers) {
      if (isSparseTensor(tensor)) continue;
      const location = this.#placement(name, tensor);
      // The message holds the name: a tensor that now stands under another one is written anew.
      const isOwn = isFileTensor(tensor) && tensor.name === name;
      const isUntouched = isOwn && !tensor.isExternal && location === undefined;
      messages.push(isUntouched ? [chunkOf(tensor.message)] : encodeTensor(name, tensor, location));
    }
    return messages;
  }

  #writeSparse(record: WireRecord): void {
    const kept = [...this.#graph.initializers.values()].some(
      (tensor) => isSparseTensor(tensor) && tensor.message === record.body,
    );
    if (kept) this.chunks.push(chunkOf(record.raw));
  }
}

function encodeDeclared(value: Value): readonly Chunk[] {
  return [chunkOf(encodeValue(value))];
}

function unreachable(): never {
  throw new Error("a writer reads nothing");
}

function annotated(record: WireRecord): string {
  return decodeMessage(TensorAnnotationSchema, record.body, "quantization_annotation").tensorName;
}

function indexTensors(tensors: readonly NamedTensor[]): ReadonlyMap<ValueName, Tensor> {
  const index = new Map<ValueName, Tensor>();
  for (const { name, tensor } of tensors) {
    if (index.has(name)) throw new RecoupError("graph/invalid", "is the name of two initializers", { field: name });
    index.set(name, tensor);
  }
  return index;
}
