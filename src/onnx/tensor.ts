import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { RecoupError } from "../errors.js";
import { elementCodeOf, elementTypeOf } from "../tensor/element-code.js";
import { bytesFor, type ElementType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";
import { type ExternalLocation, type ExternalReader, externalLocation } from "./external-data.js";
import { StringStringEntryProtoSchema } from "./gen/onnx_pb.js";
import { largestTensor, mostAxes, objectBytes, type Reading } from "./limits.js";
import { decodeText, encodeText } from "./text.js";
import { decodeTyped, storedBytes, typedFields } from "./typed-data.js";
import {
  bodyOf,
  type Chunk,
  chunkOf,
  countVarints,
  cutRecords,
  decodeMessage,
  lengthPrefix,
  textOf,
  varintOf,
  varintsOf,
  type WireRecord,
} from "./wire.js";

/** Field numbers of `TensorProto`. */
const field = {
  dims: 1,
  dataType: 2,
  segment: 3,
  name: 8,
  rawData: 9,
  externalData: 13,
  dataLocation: 14,
  ...typedFields,
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
 * @param reading where the bytes of tensors in other files come from
 * @throws RecoupError `onnx/malformed`, `onnx/tensor` where the elements do not fit the shape, `onnx/unsupported` for an
 * unknown element type, `onnx/external-data`
 */
export function readTensor(message: Uint8Array, path: string, reading: Reading): NamedTensor {
  const records = cutRecords(message, path, reading.budget);
  reading.budget?.spend(objectBytes.tensor, path);
  const nameRecord = records.findLast((record) => record.field === field.name);
  const name = nameRecord === undefined ? "" : textOf(nameRecord, path);
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
    ? () => loadExternal(reading, location, sizeBytes, place)
    : inlineLoader(records, type, shape, place);
  let cached: Uint8Array | undefined;
  const bytes = () => {
    if (location) return load();
    cached ??= load();
    return cached;
  };
  const externalFiles = location ? [location.location] : [];
  const onDisk = location && { ...location, folder: reading.folder };
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
 * @throws RecoupError `onnx/tensor` for strings that no file has held, and for those of another file
 */
export function encodeTensor(name: string, tensor: Tensor, location?: ExternalLocation): readonly Chunk[] {
  if (tensor.type === "string") return [chunkOf(renameStrings(name, tensor))];
  const header = new BinaryWriter();
  for (const size of tensor.shape) header.tag(field.dims, WireType.Varint).int64(size);
  header.tag(field.dataType, WireType.Varint).int32(elementCodeOf(tensor.type));
  if (name !== "") header.tag(field.name, WireType.LengthDelimited).bytes(encodeText(name));
  if (isFileTensor(tensor)) {
    for (const record of cutRecords(tensor.message, name)) if (!encodedFields.has(record.field)) header.raw(record.raw);
  }
  if (location === undefined) {
    const prefix = lengthPrefix(field.rawData, tensor.sizeBytes);
    return [chunkOf(header.finish()), chunkOf(prefix), { sizeBytes: tensor.sizeBytes, bytes: () => tensor.bytes() }];
  }
  const entries = { location: location.location, offset: location.offset, length: tensor.sizeBytes };
  for (const [key, value] of Object.entries(entries)) {
    const entry = create(StringStringEntryProtoSchema, { key: encodeText(key), value: encodeText(String(value)) });
    header.tag(field.externalData, WireType.LengthDelimited).bytes(toBinary(StringStringEntryProtoSchema, entry));
  }
  header.tag(field.dataLocation, WireType.Varint).int32(1);
  return [chunkOf(header.finish())];
}

/** Strings are no bytes: their message is written as it was read, under the new name. */
function renameStrings(name: string, tensor: Tensor): Uint8Array {
  if (!isFileTensor(tensor) || tensor.externalFiles.length > 0) {
    throw new RecoupError("onnx/tensor", "strings cannot be written anew", { field: name });
  }
  const writer = new BinaryWriter();
  if (name !== "") writer.tag(field.name, WireType.LengthDelimited).bytes(encodeText(name));
  for (const record of cutRecords(tensor.message, name)) if (record.field !== field.name) writer.raw(record.raw);
  return writer.finish();
}

function inlineLoader(
  records: readonly WireRecord[],
  type: ElementType,
  shape: readonly number[],
  place: string,
): () => Uint8Array {
  const needed = bytesFor(type, elementCount(shape));
  const misfit = (stored: number) =>
    new RecoupError("onnx/tensor", `${type}[${shape}] needs ${needed} bytes, ${stored} are stored`, { field: place });
  const checkFit = (bytes: Uint8Array) => {
    if (bytes.byteLength === needed) return bytes;
    throw misfit(bytes.byteLength);
  };
  const raw = records.findLast((record) => record.field === field.rawData);
  if (raw !== undefined && type !== "string") {
    const bytes = bodyOf(raw, place);
    checkFit(bytes);
    return () => bytes;
  }
  const stored = type === "string" ? undefined : storedBytes(records, type, place);
  if (stored !== undefined && stored !== needed) throw misfit(stored);
  return () => checkFit(decodeTyped(records, type, place));
}

/** @throws RecoupError `onnx/tensor` for sizes that no tensor can have, `onnx/limit` for too many */
export function readShape(records: readonly WireRecord[], dimsField: number, place: string): readonly number[] {
  const rank = records.reduce((sum, record) => sum + (record.field === dimsField ? countVarints(record.body) : 0), 0);
  if (rank > mostAxes) {
    throw new RecoupError("onnx/limit", `has ${rank} axes, and ${mostAxes} are the most`, { field: place });
  }
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
  const texts = entries.map((entry) => [decodeText(entry.key), decodeText(entry.value)] as const);
  const found = new Map(texts);
  // Another reader may take the other one, and with it another file than the one that was checked.
  if (found.size < texts.length) {
    throw new RecoupError("onnx/external-data", "names a key of its external data twice", { field: path });
  }
  return found;
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
  if (sizeBytes > largestTensor) {
    throw new RecoupError("onnx/limit", `takes ${sizeBytes} bytes, and ${largestTensor} are the most`, {
      field: place,
    });
  }
  return external.read(location.location, location.offset, sizeBytes, place);
}
