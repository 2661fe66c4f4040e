import { type DescField, type DescMessage, fromBinary, type MessageShape, ScalarType } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { RecoupError } from "../errors.js";

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
 * @throws RecoupError `onnx/malformed` for a field that runs past the end of the message or has no valid tag
 */
export function cutRecords(message: Uint8Array, path: string): readonly WireRecord[] {
  const reader = new BinaryReader(message);
  const records: WireRecord[] = [];
  while (reader.pos < reader.len) {
    const start = reader.pos;
    try {
      const [field, wireType] = reader.tag();
      const valueStart = reader.pos;
      reader.skip(wireType, field);
      const bodyStart = wireType === WireType.LengthDelimited ? skipVarint(message, valueStart) : valueStart;
      const raw = message.subarray(start, reader.pos);
      records.push({ field, wireType, raw, body: message.subarray(bodyStart, reader.pos) });
    } catch (cause) {
      throw malformed(path, `is broken at byte ${start} of ${message.byteLength}`, cause);
    }
  }
  return records;
}

/**
 * Decodes a message with the generated code, after the checks that the generated code leaves out: every length stays
 * inside its message, every known field has its wire type, every name is UTF-8 (or two could become one).
 *
 * @throws RecoupError `onnx/malformed`
 */
export function decodeMessage<Desc extends DescMessage>(
  schema: Desc,
  message: Uint8Array,
  path: string,
): MessageShape<Desc> {
  checkMessage(schema, message, path);
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
  for (const record of records) {
    if (record.field !== field) continue;
    if (record.wireType !== WireType.Varint && record.wireType !== WireType.LengthDelimited) {
      throw malformed(path, `has numbers of wire type ${record.wireType}`);
    }
    const reader = new BinaryReader(record.body);
    try {
      while (reader.pos < reader.len) values.push(BigInt(reader.int64()));
    } catch (cause) {
      throw malformed(path, "has a broken number", cause);
    }
  }
  return values;
}

/** The body of a record that must be a string, bytes or a message. */
export function bodyOf(record: WireRecord, path: string): Uint8Array {
  if (record.wireType !== WireType.LengthDelimited) {
    throw malformed(path, `has wire type ${record.wireType}, not a length`);
  }
  return record.body;
}

/** A name, by which something else is found. @throws RecoupError `onnx/malformed` for bytes that are not UTF-8 */
export function nameOf(record: WireRecord, path: string): string {
  return decodeName(bodyOf(record, path), path);
}

/** A text for people, whatever its bytes. */
export function textOf(record: WireRecord, path: string): string {
  return new TextDecoder().decode(bodyOf(record, path));
}

/** Protobuf's own limit: no other reader takes more. */
const largestMessage = 2 ** 31 - 1;

/**
 * The tag and length that go before a body of a given size.
 *
 * @throws RecoupError `onnx/unsupported` for 2 GiB and more
 */
export function lengthPrefix(field: number, sizeBytes: number): Uint8Array {
  if (sizeBytes > largestMessage) {
    throw new RecoupError("onnx/unsupported", `would be a message of ${sizeBytes} bytes, and protobuf ends at 2 GiB`);
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

/** A byte order mark is part of the text: names must stay the same wherever they stand. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decodeName(bytes: Uint8Array, path: string): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw malformed(path, "is not UTF-8", cause);
  }
}

function skipVarint(bytes: Uint8Array, start: number): number {
  let position = start;
  while (bytes[position] & 0x80) position++;
  return position + 1;
}

function checkMessage(schema: DescMessage, message: Uint8Array, path: string): void {
  for (const record of cutRecords(message, path)) {
    const field = schema.fields.find((candidate) => candidate.number === record.field);
    if (field === undefined) continue;
    const fieldPath = `${path}.${field.name}`;
    if (!wireTypesOf(field).includes(record.wireType)) {
      throw malformed(fieldPath, `has wire type ${record.wireType}, which its type does not allow`);
    }
    if (field.message) checkMessage(field.message, record.body, fieldPath);
    if (field.scalar === ScalarType.STRING && !isAscii(record.body)) decodeName(record.body, fieldPath);
  }
}

function isAscii(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte < 0x80);
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
