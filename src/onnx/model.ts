import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { RecoupError } from "../errors.js";
import type { Model } from "../graph/model.js";
import type { Tensor } from "../tensor/tensor.js";
import { type ExternalLocation, type ExternalReader, externalAlignment, noExternalData } from "./external-data.js";
import { FunctionProtoSchema, OperatorSetIdProtoSchema, StringStringEntryProtoSchema } from "./gen/onnx_pb.js";
import { encodeGraph, inlineAll, type Placement, readGraph } from "./graph.js";
import {
  bodyOf,
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
}

/** Tensors below this size in bytes stay in the model file, whatever the options say. */
const externalThreshold = 1024;

/**
 * Reads a `ModelProto`.
 *
 * @param bytes the whole file; the model keeps views of it
 * @throws RecoupError `onnx/not-a-model` for anything that is no ONNX file, `onnx/malformed`, `onnx/unsupported`,
 * `onnx/tensor`, `onnx/external-data`, `graph/invalid`
 */
export function readModel(bytes: Uint8Array, external: ExternalReader = noExternalData): Model {
  refuseOtherFiles(bytes);
  const records = cutRecords(bytes, "model");
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
    graph: readGraph(bodyOf(graphs[0], "graph"), "graph", external, false),
    irVersion:
      of(field.irVersion)
        .map((record) => varintOf(record, "ir_version"))
        .at(-1) ?? 1,
    opsets: readOpsets(of(field.opsetImport)),
    producerName: text(field.producerName),
    producerVersion: text(field.producerVersion),
    metadata: new Map(
      of(field.metadataProps).map((record) => {
        const entry = decodeMessage(StringStringEntryProtoSchema, bodyOf(record, "metadata_props"), "metadata_props");
        return [entry.key, entry.value];
      }),
    ),
    functions: new Set(
      of(field.functions).map((record) => {
        const proto = decodeMessage(FunctionProtoSchema, bodyOf(record, "functions"), "functions");
        return `${proto.domain}::${proto.name}`;
      }),
    ),
    origin,
  };
  origin.model = model;
  return model;
}

/** The model as bytes to write: what nobody changed as it was read, record by record. */
export function encodeModel(model: Model, options: EncodeOptions = {}): EncodedModel {
  const store = options.externalLocation === undefined ? undefined : new ExternalStore(options.externalLocation);
  const placement: Placement = store ? (_name, tensor) => store.place(tensor) : inlineAll;
  const graph = wrapChunks(field.graph, encodeGraph(model.graph, placement));
  const origin = model.origin as ModelOrigin | undefined;
  const changed = changedFields(model, origin?.model);
  const chunks: Chunk[] = [];
  for (const record of origin?.records ?? []) {
    if (record.field === field.graph) chunks.push(...graph);
    else if (changed.has(record.field)) {
      chunks.push(...(changed.get(record.field) ?? []));
      changed.set(record.field, []);
    } else chunks.push(chunkOf(record.raw));
  }
  for (const rest of changed.values()) chunks.push(...rest);
  if (!origin) chunks.push(...graph);
  return { chunks, externalChunks: store?.chunks ?? [] };
}

/** The whole file as one array; for models that fit into memory twice. */
export function joinChunks(chunks: readonly Chunk[]): Uint8Array {
  const joined = new Uint8Array(totalSize(chunks));
  let position = 0;
  for (const chunk of chunks) {
    joined.set(chunk.bytes(), position);
    position += chunk.sizeBytes;
  }
  return joined;
}

/** The fields whose values differ from what was read, encoded. */
function changedFields(model: Model, before: Model | undefined): Map<number, readonly Chunk[]> {
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
    if (text !== (old ?? "")) changed.set(number, message(number, new TextEncoder().encode(text)));
  }
  if (model.opsets !== before?.opsets) {
    const imports = [...model.opsets].map(([domain, version]) =>
      toBinary(OperatorSetIdProtoSchema, create(OperatorSetIdProtoSchema, { domain, version: BigInt(version) })),
    );
    changed.set(
      field.opsetImport,
      imports.flatMap((body) => message(field.opsetImport, body)),
    );
  }
  if (model.metadata !== before?.metadata) {
    const entries = [...model.metadata].map(([key, value]) =>
      toBinary(StringStringEntryProtoSchema, create(StringStringEntryProtoSchema, { key, value })),
    );
    changed.set(
      field.metadataProps,
      entries.flatMap((body) => message(field.metadataProps, body)),
    );
  }
  return changed;
}

function readOpsets(records: readonly WireRecord[]): ReadonlyMap<string, number> {
  const opsets = new Map<string, number>();
  for (const record of records) {
    const proto = decodeMessage(OperatorSetIdProtoSchema, bodyOf(record, "opset_import"), "opset_import");
    const domain = proto.domain === "ai.onnx" ? "" : proto.domain;
    if (opsets.has(domain)) {
      throw new RecoupError("graph/invalid", "is imported twice", { field: `opset_import ${domain || "ai.onnx"}` });
    }
    opsets.set(domain, Number(proto.version));
  }
  return opsets;
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

/** The files people most often hand in by mistake, told by their first bytes. */
function refuseOtherFiles(bytes: Uint8Array): void {
  if (bytes.byteLength === 0) throw new RecoupError("onnx/not-a-model", "is empty");
  const head = new TextDecoder("latin1").decode(bytes.subarray(0, 64));
  const known: readonly (readonly [string | RegExp, string])[] = [
    [/^version https:\/\/git-lfs/, "a Git LFS pointer, not the model itself: fetch it with `git lfs pull`"],
    ["\u0089PNG", "a PNG picture"],
    ["\u00ff\u00d8\u00ff", "a JPEG picture"],
    ["PK\u0003\u0004", "a ZIP archive (or a PyTorch file)"],
    ["\u001f\u008b", "a gzip archive"],
    ["\u0089HDF", "an HDF5 file (Keras?)"],
    [/^\s*(<!doctype|<html|<\?xml)/i, "a web page"],
    [/^\s*\{/, "JSON"],
    [/^....TFL3/s, "a TensorFlow Lite model: convert it to ONNX first"],
    ["GGUF", "a GGUF model: convert it to ONNX first"],
    ["\u0093NUMPY", "a NumPy array"],
  ];
  for (const [sign, what] of known) {
    const matches = typeof sign === "string" ? head.startsWith(sign) : sign.test(head);
    if (matches) throw new RecoupError("onnx/not-a-model", `is no ONNX model but ${what}`);
  }
}
