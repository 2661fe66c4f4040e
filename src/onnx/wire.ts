import { type DescField, type DescMessage, fromBinary, type MessageShape, ScalarType } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { RecoupError } from "../errors.js";
import { largestMessage, objectBytes, type ReadBudget } from "./limits.js";
import { decodeText } from "./text.js";

/** One field of a message as it stands on the wire: views of the file, nothing copied. */
export interface WireRecord {
  readonly field: number;
  readonly wireType: WireType;
  /** Tag, length and body. */
  readonly raw: Uint8Array;
  /** The value without tag and length. */
  readonly body: Uint8Array;
}

/** Something that can be written: bytes, or a tensor whose bytes are fetched when their turn comes. */
export interface Chunk {
  readonly sizeBytes: number;
  bytes(): Uint8Array;
}

/**
 * Cuts a message into its fields.
 *
 * @param path where the message stands, for errors: `graph.node[3]`
 * @throws RecoupError `onnx/malformed` for a field that runs past the end of the message or has no valid tag, `onnx/limit`
 */
export function cutRecords(message: Uint8Array, path: string, budget?: ReadBudget): readonly WireRecord[] {
  const records: WireRecord[] = [];
  for (const record of recordsIn(message, path)) {
    budget?.spend(objectBytes.field, path);
    records.push(record);
  }
  return records;
}

/** The fields of a message one after the other, none of which is kept. */
export function* recordsIn(message: Uint8Array, path: string): Generator<WireRecord> {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const start = reader.pos;
    let record: WireRecord;
    try {
      const [field, wireType] = reader.tag();
      const valueStart = reader.pos;
      reader.skip(wireType, field);
      const bodyStart = wireType === WireType.LengthDelimited ? skipVarint(message, valueStart) : valueStart;
      const raw = message.subarray(start, reader.pos);
      record = { field, wireType, raw, body: message.subarray(bodyStart, reader.pos) };
    } catch (cause) {
      throw malformed(path, `is broken at byte ${start} of ${message.byteLength}`, cause);
    }
    yield record;
  }
}

/**
 * Decodes a message with the generated code, after the checks that the generated code leaves out: every length stays
 * inside its message, every known field has its wire type.
 *
 * @throws RecoupError `onnx/malformed`, `onnx/limit`
 */
export function decodeMessage<Desc extends DescMessage>(
  schema: Desc,
  message: Uint8Array,
  path: string,
  budget?: ReadBudget,
): MessageShape<Desc> {
  checkMessage(schema, message, path, budget);
  try {
    return fromBinary(schema, message);
  } catch (cause) {
    throw malformed(path, "cannot be decoded", cause);
  }
}

/** The value of a record that must be a varint, as a number; beyond 2^53 the nearest double. */
export function varintOf(record: WireRecord, path: string): number {
  if (record.wireType !== WireType.Varint) throw malformed(path, `has wire type ${record.wireType}, not a varint`);
  const [value] = varintsOf([record], record.field, path);
  return Number(value);
}

/** All values of a repeated varint field, packed or not. */
export function varintsOf(records: readonly WireRecord[], field: number, path: string): readonly bigint[] {
  const values: bigint[] = [];
  forEachVarint(records, field, path, (_i, low, high) => values.push((BigInt(high | 0) << 32n) | BigInt(low)));
  return values;
}

/** Visits all values of a repeated varint field in two halves of 32 bits, without an object for each. */
export function forEachVarint(
  records: readonly WireRecord[],
  field: number,
  path: string,
  visit: (index: number, low: number, high: number) => void,
): void {
  let index = 0;
  for (const { field: found, wireType, body } of records) {
    if (found !== field) continue;
    if (wireType !== WireType.Varint && wireType !== WireType.LengthDelimited) {
      throw malformed(path, `has numbers of wire type ${wireType}`);
    }
    let [low, high, shift] = [0, 0, 0];
    for (const byte of body) {
      const bits = byte & 127;
      if (shift > longestShift) throw malformed(path, "has a broken number");
      if (shift < 32) low |= bits << shift;
      if (shift >= 32) high |= bits << (shift - 32);
      else if (shift > 25) high |= bits >>> (32 - shift);
      if (byte > 127) shift += 7;
      else {
        visit(index++, low >>> 0, high >>> 0);
        [low, high, shift] = [0, 0, 0];
      }
    }
    if (shift > 0) throw malformed(path, "has a broken number");
  }
}

/** A number of 64 bits takes ten bytes of seven. */
const longestShift = 63;

/** The body of a record that must be a string, bytes or a message. */
export function bodyOf(record: WireRecord, path: string): Uint8Array {
  if (record.wireType !== WireType.LengthDelimited) {
    throw malformed(path, `has wire type ${record.wireType}, not a length`);
  }
  return record.body;
}

/** A text, whatever its bytes. */
export function textOf(record: WireRecord, path: string): string {
  return decodeText(bodyOf(record, path));
}

/**
 * The tag and length that go before a body of a given size.
 *
 * @throws RecoupError `onnx/limit` for 2 GiB and more
 */
export function lengthPrefix(field: number, sizeBytes: number): Uint8Array {
  if (sizeBytes > largestMessage) {
    throw new RecoupError("onnx/limit", `would be a message of ${sizeBytes} bytes, and protobuf ends at 2 GiB`);
  }
  return new BinaryWriter().tag(field, WireType.LengthDelimited).uint32(sizeBytes).finish();
}

export function chunkOf(bytes: Uint8Array): Chunk {
  return { sizeBytes: bytes.byteLength, bytes: () => bytes };
}

/** The bytes of a chunk, which must be as many as were promised: lengths have been written before them. */
export function bytesOfChunk(chunk: Chunk): Uint8Array {
  const bytes = chunk.bytes();
  if (bytes.byteLength === chunk.sizeBytes) return bytes;
  throw new Error(`a chunk of ${chunk.sizeBytes} bytes gave ${bytes.byteLength}`);
}

/** A length-delimited field around some chunks. */
export function wrapChunks(field: number, chunks: readonly Chunk[]): readonly Chunk[] {
  return [chunkOf(lengthPrefix(field, totalSize(chunks))), ...chunks];
}

export function totalSize(chunks: readonly Chunk[]): number {
  return chunks.reduce((sum, chunk) => sum + chunk.sizeBytes, 0);
}

export function malformed(path: string, message: string, cause?: unknown): RecoupError {
  return new RecoupError("onnx/malformed", message, { field: path }, { cause });
}

function skipVarint(bytes: Uint8Array, start: number): number {
  let position = start;
  while (bytes[position] & 0x80) position++;
  return position + 1;
}

function checkMessage(schema: DescMessage, message: Uint8Array, path: string, budget: ReadBudget | undefined): void {
  for (const record of recordsIn(message, path)) {
    const field = schema.fields.find((candidate) => candidate.number === record.field);
    if (field === undefined) continue;
    const fieldPath = `${path}.${field.name}`;
    if (!wireTypesOf(field).includes(record.wireType)) {
      throw malformed(fieldPath, `has wire type ${record.wireType}, which its type does not allow`);
    }
    if (field.message) checkMessage(field.message, record.body, fieldPath, budget);
    if (field.fieldKind === "list") budget?.spend(entryBytes(field, record), fieldPath);
  }
}

/** What the entries take that one record adds to a list: many where it is packed. */
function entryBytes(field: DescField, { wireType, body }: WireRecord): number {
  const width = field.scalar === undefined ? undefined : scalarWireTypes[field.scalar];
  if (width === undefined) return objectBytes.text;
  if (wireType !== WireType.LengthDelimited) return objectBytes.number;
  return objectBytes.number * (width === WireType.Varint ? countVarints(body) : Math.ceil(body.byteLength / 4));
}

/** How many varints stand one after the other: each ends with the only byte below 128. */
export function countVarints(bytes: Uint8Array): number {
  let count = 0;
  for (let i = 0; i < bytes.length; i++) if (bytes[i] < 0x80) count++;
  return count;
}

function wireTypesOf(field: DescField): readonly WireType[] {
  if (field.message) return [WireType.LengthDelimited];
  const scalar = field.scalar === undefined ? WireType.Varint : scalarWireTypes[field.scalar];
  if (scalar === undefined) return [WireType.LengthDelimited];
  return field.fieldKind === "list" ? [scalar, WireType.LengthDelimited] : [scalar];
}

/** Strings and bytes are not here: they are length-delimited. */
const scalarWireTypes: Partial<Record<ScalarType, WireType>> = {
  [ScalarType.FLOAT]: WireType.Bit32,
  [ScalarType.INT32]: WireType.Varint,
  [ScalarType.INT64]: WireType.Varint,
  [ScalarType.BOOL]: WireType.Varint,
};
