import { RecoupError } from "../errors.js";
import { buildGraph, type Graph, type Value, type ValueName } from "../graph/graph.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ExternalLocation } from "./external-data.js";
import { TensorAnnotationSchema } from "./gen/onnx_pb.js";
import { deepestBody, type Reading } from "./limits.js";
import { encodeNode, readNode } from "./node.js";
import { filesOfGraph } from "./references.js";
import { isSparseTensor, readSparseTensor } from "./sparse-tensor.js";
import { encodeTensor, type FileTensor, isFileTensor, type NamedTensor, readTensor } from "./tensor.js";
import { decodeText, encodeText } from "./text.js";
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
 * @param depth 0 for a model's own graph, 1 for the bodies of its nodes, and so on
 * @throws RecoupError `onnx/malformed`, `onnx/limit`, `onnx/unsupported`, `onnx/tensor`, `graph/invalid`
 */
export function readGraph(message: Uint8Array, path: string, reading: Reading, depth = 0): Graph {
  if (depth > deepestBody) {
    // The whole path is long by now.
    const field = path.slice(0, longestPlace);
    throw new RecoupError("onnx/limit", `has bodies inside bodies, more than ${deepestBody} deep`, { field });
  }
  const records = cutRecords(message, path, reading.budget);
  const of = (wanted: number) => records.filter((record) => record.field === wanted);
  const readBody = (body: Uint8Array, bodyPath: string) => readGraph(body, bodyPath, reading, depth + 1);
  const read = <Result>(wanted: number, kind: string, reader: (body: Uint8Array, path: string) => Result): Result[] =>
    of(wanted).map((record, i) => reader(bodyOf(record, `${path}.${kind}[${i}]`), `${path}.${kind}[${i}]`));
  const readDeclared = (body: Uint8Array, at: string) => readValue(body, at, reading.budget);
  // Only the writer needs them, but a broken one must not be found after all the work.
  read(field.quantizationAnnotation, "quantization_annotation", annotatedValue);
  const origin: GraphOrigin = { message, records };
  const graph = buildGraph(
    {
      name:
        of(field.name)
          .map((record) => textOf(record, path))
          .at(-1) ?? "",
      inputs: read(field.input, "input", readDeclared),
      outputs: read(field.output, "output", readDeclared),
      nodes: read(field.node, "node", (body, at) => readNode(body, at, reading, readBody)),
      initializers: indexTensors([
        ...read(field.initializer, "initializer", (body, at) => readTensor(body, at, reading)),
        ...read(field.sparseInitializer, "sparse_initializer", (body, at) => readSparseTensor(body, at, reading)),
      ]),
      valueInfo: new Map(read(field.valueInfo, "value_info", readDeclared).map((value) => [value.name, value])),
      origin,
    },
    depth > 0,
  );
  origin.graph = graph;
  return graph;
}

/** The graph as a message: record by record as it was read, changed and new ones encoded. */
export function encodeGraph(graph: Graph, placement: Placement): readonly Chunk[] {
  const origin = graph.origin as GraphOrigin | undefined;
  if (origin?.graph === graph && placement === inlineAll && filesOfGraph(graph).size === 0) {
    return [chunkOf(origin.message)];
  }
  const writer = new GraphWriter(graph, placement);
  for (const record of origin?.records ?? []) writer.writeRecord(record);
  writer.writeRest();
  return writer.chunks;
}

/** Characters of a path in an error. */
const longestPlace = 120;

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
  /** What the graph was read from, by the message in it. */
  readonly #read: ReadonlyMap<Uint8Array, WireRecord>;
  /** Sparse initializers that stay as they are. */
  readonly #sparse: ReadonlySet<Uint8Array>;

  constructor(graph: Graph, placement: Placement) {
    this.#graph = graph;
    this.#placement = placement;
    const origin = graph.origin as GraphOrigin | undefined;
    this.#read = new Map(origin?.records.map((record) => [record.body, record]));
    const kept = [...graph.initializers].flatMap(([name, tensor]) =>
      isSparseTensor(tensor) && isAsRead(name, tensor) && this.#read.has(tensor.message) ? [tensor.message] : [],
    );
    this.#sparse = new Set(kept);
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
        if (this.#sparse.has(record.body)) this.chunks.push(chunkOf(record.raw));
        return;
      case field.quantizationAnnotation:
        if (this.#isDefined(annotatedValue(record.body, "quantization_annotation"))) {
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
      this.chunks.push(...wrapChunks(field.name, [chunkOf(encodeText(this.#graph.name || "graph"))]));
    }
  }

  #writeField(number: number): void {
    if (this.#written.has(number)) return;
    this.#written.add(number);
    const graph = this.#graph;
    const encodeBody = (body: Graph) => encodeGraph(body, inlineAll);
    const messages: Readonly<Record<number, () => readonly (readonly Chunk[])[]>> = {
      [field.node]: () => graph.nodes.map((node) => encodeNode(node, encodeBody)),
      [field.initializer]: () => this.#initializers(),
      [field.input]: () => graph.inputs.map(encodeDeclared),
      [field.output]: () => graph.outputs.map(encodeDeclared),
      [field.valueInfo]: () => [...graph.valueInfo.values()].map(encodeDeclared),
    };
    for (const message of messages[number]()) this.#writeMessage(number, message);
  }

  /** A message that was read is written with the very tag and length it was read with. */
  #writeMessage(number: number, message: readonly Chunk[]): void {
    const record = message.length === 1 ? this.#read.get(message[0].bytes()) : undefined;
    if (record?.field === number) this.chunks.push(chunkOf(record.raw));
    else for (const chunk of wrapChunks(number, message)) this.chunks.push(chunk);
  }

  #initializers(): readonly (readonly Chunk[])[] {
    const messages: (readonly Chunk[])[] = [];
    for (const [name, tensor] of this.#graph.initializers) {
      if (isSparseTensor(tensor) && this.#sparse.has(tensor.message)) continue;
      const location = this.#placement(name, tensor);
      const isUntouched = isFileTensor(tensor) && isAsRead(name, tensor) && !isSparseTensor(tensor) && !location;
      messages.push(isUntouched ? [chunkOf(tensor.message)] : encodeTensor(name, tensor, location));
    }
    return messages;
  }

  #isDefined(value: ValueName): boolean {
    const { initializers, captures } = this.#graph;
    const isOwn = this.#graph.producer(value) !== undefined || this.#graph.isInput(value);
    return isOwn || initializers.has(value) || captures.has(value);
  }
}

/** The message holds the name: a tensor that now stands under another one is written anew. */
function isAsRead(name: ValueName, tensor: FileTensor): boolean {
  return tensor.name === name && tensor.externalFiles.length === 0;
}

function encodeDeclared(value: Value): readonly Chunk[] {
  return [chunkOf(encodeValue(value))];
}

function annotatedValue(message: Uint8Array, path: string): ValueName {
  return decodeText(decodeMessage(TensorAnnotationSchema, message, path).tensorName);
}

function indexTensors(tensors: readonly NamedTensor[]): ReadonlyMap<ValueName, Tensor> {
  const index = new Map<ValueName, Tensor>();
  for (const { name, tensor } of tensors) {
    if (index.has(name)) throw new RecoupError("graph/invalid", "is the name of two initializers", { field: name });
    index.set(name, tensor);
  }
  return index;
}
