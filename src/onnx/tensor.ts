import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { RecoupError } from "../errors.js";
import { elementCodeOf, elementTypeOf } from "../tensor/element-code.js";
import { bytesFor, type ElementType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { bytesOf, type Tensor } from "../tensor/tensor.js";
import { type ExternalLocation, type ExternalReader, externalLocation } from "./external-data.js";
import { StringStringEntryProtoSchema } from "./gen/onnx_pb.js";
import {
  bodyOf,
  type Chunk,
  chunkOf,
  cutRecords,
  decodeMessage,
  lengthPrefix,
  malformed,
  nameOf,
  varintOf,
  varintsOf,
  type WireRecord,
} from "./wire.js";

/** Field numbers of `TensorProto`. */
const field = {
  dims: 1,
  dataType: 2,
  segment: 3,
  floatData: 4,
  int32Data: 5,
  stringData: 6,
  int64Data: 7,
  name: 8,
  rawData: 9,
  doubleData: 10,
  uint64Data: 11,
  externalData: 13,
  dataLocation: 14,
} as const;

/** What a writer encodes anew; documentation, metadata and unknown fields stay as they were read. */
const encodedFields: ReadonlySet<number> = new Set(Object.values(field));

/** A tensor of a file, with the message it was read from, which holds its name too. */
export interface FileTensor extends Tensor {
  readonly name: string;
  readonly message: Uint8Array;
  /** The files that hold its elements, relative to the model's folder; none where the model file itself does. */
  readonly externalFiles: readonly string[];
  /** Where in such a file they stand, for a tensor that is stored whole in one. */
  readonly external?: TensorOnDisk;
}

/** A place in a file that stays there as long as the model is used. */
export interface TensorOnDisk extends ExternalLocation {
  /** The model's folder; not given for models whose files are on no disk. */
  readonly folder?: string;
}

export interface NamedTensor {
  readonly name: string;
  readonly tensor: FileTensor;
}

/**
 * Reads a `TensorProto`. Elements in other files, and those that are not stored as raw bytes, are only looked at when they
 * are asked for.
 *
 * @param external where the bytes of tensors in other files come from
 * @throws RecoupError `onnx/malformed`, `onnx/tensor` where the elements do not fit the shape, `onnx/unsupported` for an
 * unknown element type, `onnx/external-data`
 */
export function readTensor(message: Uint8Array, path: string, external: ExternalReader): NamedTensor {
  const records = cutRecords(message, path);
  const nameRecord = records.findLast((record) => record.field === field.name);
  const name = nameRecord === undefined ? "" : nameOf(nameRecord, path);
  const place = name === "" ? path : name;
  const shape = readShape(records, field.dims, place);
  const code = lastVarint(records, field.dataType, place);
  const type = elementTypeOf(code);
  if (type === undefined)
    throw new RecoupError("onnx/unsupported", `has unknown element type ${code}`, { field: place });
  if (records.some((record) => record.field === field.segment)) {
    throw new RecoupError("onnx/unsupported", "is stored in segments", { field: place });
  }
  const location = isStoredOutside(records, place)
    ? externalLocation(externalEntries(records, place), place)
    : undefined;
  const sizeBytes = bytesFor(type, elementCount(shape));
  const load = location
    ? () => loadExternal(external, location, sizeBytes, place)
    : inlineLoader(records, type, shape, place);
  let cached: Uint8Array | undefined;
  const bytes = () => {
    if (location) return load();
    cached ??= load();
    return cached;
  };
  const externalFiles = location ? [location.location] : [];
  const onDisk = location && { ...location, folder: external.folder };
  return { name, tensor: { name, type, shape, sizeBytes, bytes, message, externalFiles, external: onDisk } };
}

/** Whether the elements of a `TensorProto` stand in another file. */
export function isStoredOutside(records: readonly WireRecord[], path: string): boolean {
  return lastVarint(records, field.dataLocation, path) === 1;
}

/** Whether a tensor came from a file and may be written back as it was read. */
export function isFileTensor(tensor: Tensor): tensor is FileTensor {
  return "message" in tensor && "externalFiles" in tensor;
}

/**
 * A `TensorProto` with its elements as `raw_data`, or with a reference to where they are written.
 *
 * @throws RecoupError `onnx/tensor` for strings, which never are made anew
 */
export function encodeTensor(name: string, tensor: Tensor, location?: ExternalLocation): readonly Chunk[] {
  if (tensor.type === "string") throw new RecoupError("onnx/tensor", "strings cannot be written anew", { field: name });
  const header = new BinaryWriter();
  for (const size of tensor.shape) header.tag(field.dims, WireType.Varint).int64(size);
  header.tag(field.dataType, WireType.Varint).int32(elementCodeOf(tensor.type));
  if (name !== "") header.tag(field.name, WireType.LengthDelimited).string(name);
  if (isFileTensor(tensor)) {
    for (const record of cutRecords(tensor.message, name)) if (!encodedFields.has(record.field)) header.raw(record.raw);
  }
  if (location === undefined) {
    const prefix = lengthPrefix(field.rawData, tensor.sizeBytes);
    return [chunkOf(header.finish()), chunkOf(prefix), { sizeBytes: tensor.sizeBytes, bytes: () => tensor.bytes() }];
  }
  const entries = { location: location.location, offset: location.offset, length: tensor.sizeBytes };
  for (const [key, value] of Object.entries(entries)) {
    const entry = create(StringStringEntryProtoSchema, { key, value: new TextEncoder().encode(String(value)) });
    header.tag(field.externalData, WireType.LengthDelimited).bytes(toBinary(StringStringEntryProtoSchema, entry));
  }
  header.tag(field.dataLocation, WireType.Varint).int32(1);
  return [chunkOf(header.finish())];
}

function inlineLoader(
  records: readonly WireRecord[],
  type: ElementType,
  shape: readonly number[],
  place: string,
): () => Uint8Array {
  const needed = bytesFor(type, elementCount(shape));
  const checkFit = (bytes: Uint8Array) => {
    if (bytes.byteLength === needed) return bytes;
    const message = `${type}[${shape}] needs ${needed} bytes, ${bytes.byteLength} are stored`;
    throw new RecoupError("onnx/tensor", message, { field: place });
  };
  const raw = records.findLast((record) => record.field === field.rawData);
  if (raw !== undefined && type !== "string") {
    const bytes = bodyOf(raw, place);
    checkFit(bytes);
    return () => bytes;
  }
  return () => checkFit(decodeTyped(records, type, place));
}

/** Elements that stand in one of the typed fields, as the bytes that `raw_data` would hold. */
function decodeTyped(records: readonly WireRecord[], type: ElementType, place: string): Uint8Array {
  switch (type) {
    case "string":
      throw new RecoupError("onnx/tensor", "strings have no bytes", { field: place });
    case "float32":
    case "complex64":
      return joinFixed(records, field.floatData, 4, place);
    case "float64":
    case "complex128":
      return joinFixed(records, field.doubleData, 8, place);
    case "int64":
      return bytesOf(BigInt64Array.from(varintsOf(records, field.int64Data, place)));
    case "uint64":
      return bytesOf(BigUint64Array.from(varintsOf(records, field.uint64Data, place), (v) => BigInt.asUintN(64, v)));
    case "uint32":
      return bytesOf(Uint32Array.from(varintsOf(records, field.uint64Data, place), Number));
    case "int32":
      return bytesOf(Int32Array.from(varintsOf(records, field.int32Data, place), Number));
    case "int16":
    case "uint16":
    case "float16":
    case "bfloat16":
      return bytesOf(Uint16Array.from(varintsOf(records, field.int32Data, place), Number));
    default:
      // One byte an entry: 8-bit types, and packed pairs or quadruples of the smaller ones.
      return Uint8Array.from(varintsOf(records, field.int32Data, place), Number);
  }
}

function joinFixed(records: readonly WireRecord[], wanted: number, size: 4 | 8, place: string): Uint8Array {
  const single = size === 4 ? WireType.Bit32 : WireType.Bit64;
  const parts = records.filter((record) => record.field === wanted);
  for (const part of parts) {
    if (part.wireType !== single && part.wireType !== WireType.LengthDelimited) {
      throw malformed(place, `has data of wire type ${part.wireType}`);
    }
    if (part.body.byteLength % size !== 0) throw malformed(place, "has a broken number");
  }
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.body.byteLength, 0));
  let position = 0;
  for (const part of parts) {
    joined.set(part.body, position);
    position += part.body.byteLength;
  }
  return joined;
}

/** @throws RecoupError `onnx/tensor` for sizes that no tensor can have */
export function readShape(records: readonly WireRecord[], dimsField: number, place: string): readonly number[] {
  const dims = varintsOf(records, dimsField, place).map(Number);
  const count = elementCount(dims);
  if (dims.some((size) => size < 0 || !Number.isSafeInteger(size)) || !Number.isSafeInteger(count * 16)) {
    throw new RecoupError("onnx/tensor", `has the impossible shape [${dims}]`, { field: place });
  }
  return dims;
}

function lastVarint(records: readonly WireRecord[], wanted: number, path: string): number {
  const record = records.findLast((candidate) => candidate.field === wanted);
  return record === undefined ? 0 : varintOf(record, path);
}

function externalEntries(records: readonly WireRecord[], path: string): ReadonlyMap<string, string> {
  const entries = records
    .filter((record) => record.field === field.externalData)
    .map((record) => decodeMessage(StringStringEntryProtoSchema, bodyOf(record, path), `${path}.external_data`));
  return new Map(entries.map((entry) => [entry.key, new TextDecoder().decode(entry.value)]));
}

function loadExternal(
  external: ExternalReader,
  location: ExternalLocation,
  sizeBytes: number,
  place: string,
): Uint8Array {
  if (location.length !== undefined && location.length !== sizeBytes) {
    const message = `needs ${sizeBytes} bytes, its external data has ${location.length}`;
    throw new RecoupError("onnx/external-data", message, { field: place });
  }
  return external.read(location.location, location.offset, sizeBytes, place);
}
