import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { RecoupError } from "../errors.js";
import { functionKey, type LocalFunction, type Model } from "../graph/model.js";
import type { Tensor } from "../tensor/tensor.js";
import { refuseEndlessFunctions } from "./endless-functions.js";
import { type ExternalLocation, type ExternalReader, externalAlignment, noExternalData } from "./external-data.js";
import { functionMessage, readFunction, readOpsets } from "./function.js";
import { OperatorSetIdProtoSchema, StringStringEntryProtoSchema } from "./gen/onnx_pb.js";
import { encodeGraph, inlineAll, type Placement, readGraph } from "./graph.js";
import { ReadBudget, type Reading } from "./limits.js";
import { looksLikeText, refuseOtherFiles } from "./other-files.js";
import { isInFolder } from "./references.js";
import { decodeText, encodeText } from "./text.js";
import { readTraining } from "./training.js";
import {
  bodyOf,
  bytesOfChunk,
  type Chunk,
  chunkOf,
  cutRecords,
  decodeMessage,
  textOf,
  totalSize,
  varintOf,
  type WireRecord,
  wrapChunks,
} from "./wire.js";

/** Field numbers of `ModelProto`. */
const field = {
  irVersion: 1,
  producerName: 2,
  producerVersion: 3,
  graph: 7,
  opsetImport: 8,
  metadataProps: 14,
  trainingInfo: 20,
  functions: 25,
} as const;

interface ModelOrigin {
  model?: Model;
  readonly records: readonly WireRecord[];
}

/** A model as the bytes of its file and, where asked for, of the file beside it that holds the large tensors. */
export interface EncodedModel {
  readonly chunks: readonly Chunk[];
  readonly externalChunks: readonly Chunk[];
}

export interface EncodeOptions {
  /** Puts large tensors into a file of this name beside the model. */
  readonly externalLocation?: string;
  /** Leaves tensors that stand in files of this folder there: only whoever looks for files in that folder can read the model. */
  readonly inPlace?: string;
}

/** Tensors below this size in bytes stay in the model file, whatever the options say. */
const externalThreshold = 1024;

/**
 * Reads a `ModelProto`.
 *
 * @param bytes the whole file; the model keeps views of it
 * @throws RecoupError `onnx/not-a-model` for anything that is no ONNX file, `onnx/malformed`, `onnx/limit`,
 * `onnx/unsupported`, `onnx/tensor`, `onnx/external-data`, `graph/invalid`
 */
export function readModel(bytes: Uint8Array, external: ExternalReader = noExternalData): Model {
  refuseOtherFiles(bytes);
  const reading: Reading = {
    ...external,
    read: (location, offset, sizeBytes, place) => external.read(location, offset, sizeBytes, place),
    budget: new ReadBudget(),
  };
  const records = cutModel(bytes, reading);
  const of = (wanted: number) => records.filter((record) => record.field === wanted);
  const text = (wanted: number) =>
    of(wanted)
      .map((record) => textOf(record, "model"))
      .at(-1) ?? "";
  const graphs = of(field.graph);
  if (graphs.length === 0) throw new RecoupError("onnx/not-a-model", "is no ONNX model: it holds no graph");
  if (graphs.length > 1) throw new RecoupError("onnx/unsupported", "holds its graph in two pieces");
  const origin: ModelOrigin = { records };
  const model: Model = {
    graph: readGraph(bodyOf(graphs[0], "graph"), "graph", reading),
    irVersion:
      of(field.irVersion)
        .map((record) => varintOf(record, "ir_version"))
        .at(-1) ?? 1,
    opsets: readOpsets(of(field.opsetImport).map(decodeOpset)),
    producerName: text(field.producerName),
    producerVersion: text(field.producerVersion),
    metadata: new Map(of(field.metadataProps).map(readMetadata)),
    functions: readFunctions(of(field.functions), reading),
    training: of(field.trainingInfo).map((record) => readTraining(record, reading)),
    origin,
  };
  refuseEndlessFunctions(model);
  origin.model = model;
  return model;
}

/** The model as bytes to write: what nobody changed as it was read, record by record. */
export function encodeModel(model: Model, options: EncodeOptions = {}): EncodedModel {
  const store = options.externalLocation === undefined ? undefined : new ExternalStore(options.externalLocation);
  const placement = placementOf(options.inPlace, store);
  const graph = encodeGraph(model.graph, placement);
  const origin = model.origin as ModelOrigin | undefined;
  const changed = changedFields(model, origin);
  const training = new Set(model.training.map((info) => info.origin));
  const chunks: (readonly Chunk[])[] = [];
  for (const record of origin?.records ?? []) {
    if (record.field === field.graph) {
      const isAsRead = graph.length === 1 && graph[0].bytes() === record.body;
      chunks.push(isAsRead ? [chunkOf(record.raw)] : wrapChunks(field.graph, graph));
    } else if (changed.has(record.field)) {
      chunks.push(changed.get(record.field) ?? []);
      changed.set(record.field, []);
    } else if (record.field !== field.trainingInfo || training.has(record)) chunks.push([chunkOf(record.raw)]);
  }
  chunks.push(...changed.values());
  if (!origin) chunks.push(wrapChunks(field.graph, graph));
  return { chunks: chunks.flat(), externalChunks: store?.chunks ?? [] };
}

/** The whole file as one array; for models that fit into memory twice. */
export function joinChunks(chunks: readonly Chunk[]): Uint8Array {
  const joined = new Uint8Array(totalSize(chunks));
  let position = 0;
  for (const chunk of chunks) {
    joined.set(bytesOfChunk(chunk), position);
    position += chunk.sizeBytes;
  }
  return joined;
}

/** The fields whose values differ from what was read, encoded. */
function changedFields(model: Model, origin: ModelOrigin | undefined): Map<number, readonly Chunk[]> {
  const before = origin?.model;
  const changed = new Map<number, readonly Chunk[]>();
  const message = (number: number, body: Uint8Array) => wrapChunks(number, [chunkOf(body)]);
  if (model.irVersion !== before?.irVersion) {
    const bytes = new BinaryWriter().tag(field.irVersion, WireType.Varint).int64(model.irVersion).finish();
    changed.set(field.irVersion, [chunkOf(bytes)]);
  }
  for (const [number, text, old] of [
    [field.producerName, model.producerName, before?.producerName],
    [field.producerVersion, model.producerVersion, before?.producerVersion],
  ] as const) {
    if (text !== (old ?? "")) changed.set(number, message(number, encodeText(text)));
  }
  if (model.opsets !== before?.opsets) {
    const imports = [...model.opsets].map(([domain, version]) =>
      toBinary(
        OperatorSetIdProtoSchema,
        create(OperatorSetIdProtoSchema, { domain: encodeText(domain), version: BigInt(version) }),
      ),
    );
    changed.set(
      field.opsetImport,
      imports.flatMap((body) => message(field.opsetImport, body)),
    );
  }
  if (model.metadata !== before?.metadata) {
    const kept = new Map(origin?.records.filter(isMetadata).map((record) => [readMetadata(record)[0], record]));
    const entries = [...model.metadata].map(([key, value]) => {
      const record = kept.get(key);
      if (record !== undefined && value === before?.metadata.get(key)) return [chunkOf(record.raw)];
      const entry = create(StringStringEntryProtoSchema, { key: encodeText(key), value: encodeText(value) });
      return message(field.metadataProps, toBinary(StringStringEntryProtoSchema, entry));
    });
    changed.set(field.metadataProps, entries.flat());
  }
  if (model.functions !== before?.functions) {
    const messages = [...model.functions.values()].map((called) => message(field.functions, functionMessage(called)));
    changed.set(field.functions, messages.flat());
  }
  return changed;
}

function decodeOpset(record: WireRecord) {
  return decodeMessage(OperatorSetIdProtoSchema, bodyOf(record, "opset_import"), "opset_import");
}

function isMetadata(record: WireRecord): boolean {
  return record.field === field.metadataProps;
}

function readMetadata(record: WireRecord): readonly [key: string, value: string] {
  const entry = decodeMessage(StringStringEntryProtoSchema, bodyOf(record, "metadata_props"), "metadata_props");
  return [decodeText(entry.key), decodeText(entry.value)];
}

function cutModel(bytes: Uint8Array, { budget }: Reading): readonly WireRecord[] {
  try {
    return cutRecords(bytes, "model", budget);
  } catch (error) {
    const isBroken = error instanceof RecoupError && error.code === "onnx/malformed";
    throw isBroken && looksLikeText(bytes) ? new RecoupError("onnx/not-a-model", "is no ONNX model but a text") : error;
  }
}

function readFunctions(records: readonly WireRecord[], reading: Reading): ReadonlyMap<string, LocalFunction> {
  const functions = new Map<string, LocalFunction>();
  for (const [i, record] of records.entries()) {
    const found = readFunction(bodyOf(record, "functions"), `functions[${i}]`, reading);
    const key = functionKey(found);
    if (functions.has(key)) throw new RecoupError("graph/invalid", "is the name of two functions", { field: key });
    functions.set(key, found);
  }
  return functions;
}

function placementOf(inPlace: string | undefined, store: ExternalStore | undefined): Placement {
  if (inPlace === undefined) return store ? (_name, tensor) => store.place(tensor) : inlineAll;
  return (_name, tensor) => (isInFolder(tensor, inPlace) ? tensor.external : store?.place(tensor));
}

/** Collects large tensors for the external file, each at an address that a runtime can map. */
class ExternalStore {
  readonly chunks: Chunk[] = [];
  readonly #location: string;
  #position = 0;

  constructor(location: string) {
    this.#location = location;
  }

  place(tensor: Tensor): ExternalLocation | undefined {
    if (tensor.type === "string" || tensor.sizeBytes < externalThreshold) return undefined;
    const padding = (externalAlignment - (this.#position % externalAlignment)) % externalAlignment;
    if (padding > 0) this.chunks.push(chunkOf(new Uint8Array(padding)));
    const offset = this.#position + padding;
    this.chunks.push({ sizeBytes: tensor.sizeBytes, bytes: () => tensor.bytes() });
    this.#position = offset + tensor.sizeBytes;
    return { location: this.#location, offset, length: tensor.sizeBytes };
  }
}
