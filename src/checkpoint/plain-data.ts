import { joinBytes } from "../data/archive.js";
import { RecoupError } from "../errors.js";
import { bytesOf } from "../tensor/tensor.js";

/** The arrays of numbers that plain data may hold. */
const arrayTypes = {
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  float32: Float32Array,
  float64: Float64Array,
} as const;

type ArrayType = keyof typeof arrayTypes;
type NumberArray = InstanceType<(typeof arrayTypes)[ArrayType]>;

/** Plain data as text and bytes. */
export interface EncodedData {
  /** JSON. */
  readonly text: string;
  /** The elements of all arrays of numbers, little endian, one array behind the other. */
  readonly arrays: Uint8Array;
}

/** Marks an object that stands for something JSON has no words for. In names of fields it is doubled. */
const mark = "@";

/** What JSON does not have, by name. */
const namedValues = new Map<unknown, unknown>([
  ["undefined", undefined],
  ["NaN", Number.NaN],
  ["Infinity", Number.POSITIVE_INFINITY],
  ["-Infinity", Number.NEGATIVE_INFINITY],
  ["-0", -0],
]);

/** Nothing that Recoup keeps is deeper; what is would end the stack. */
const deepest = 64;

/**
 * Encodes numbers, texts, truth values, null, undefined, lists, objects and arrays of numbers, as JSON but for two things:
 * an array of numbers is `{"@array": "float32", "length": 12}`, a value that JSON does not have `{"@value": "-Infinity"}`.
 *
 * @throws TypeError for anything else
 */
export function encodeData(data: unknown): EncodedData {
  const arrays: Uint8Array[] = [];
  const text = JSON.stringify(toJson(data, arrays));
  return { text, arrays: joinBytes(arrays) };
}

/**
 * The opposite of `encodeData`.
 *
 * @throws RecoupError `checkpoint/malformed`
 */
export function decodeData({ text, arrays }: EncodedData): unknown {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new RecoupError("checkpoint/malformed", `is not JSON: ${(cause as Error).message}`, {}, { cause });
  }
  const reader = new ArrayReader(arrays);
  const data = fromJson(json, reader, 0);
  reader.finish();
  return data;
}

function toJson(data: unknown, arrays: Uint8Array[]): unknown {
  switch (typeof data) {
    case "boolean":
    case "string":
      return data;
    case "undefined":
    case "number": {
      const named = [...namedValues].find(([, value]) => Object.is(value, data));
      return named === undefined ? data : { [`${mark}value`]: named[0] };
    }
    case "object":
      break;
    default:
      throw new TypeError(`${typeof data} is no plain data`);
  }
  if (data === null) return null;
  if (Array.isArray(data)) return data.map((element) => toJson(element, arrays));
  const type = arrayTypeOf(data);
  if (type !== undefined) {
    const array = data as NumberArray;
    arrays.push(bytesOf(array));
    return { [`${mark}array`]: type, length: array.length };
  }
  if (Object.getPrototypeOf(data) !== Object.prototype) throw new TypeError(`${data} is no plain data`);
  return Object.fromEntries(Object.entries(data).map(([name, value]) => [doubleMark(name), toJson(value, arrays)]));
}

function fromJson(json: unknown, reader: ArrayReader, depth: number): unknown {
  if (depth > deepest) throw malformed(`is deeper than ${deepest} levels`);
  if (typeof json !== "object" || json === null) return json;
  if (Array.isArray(json)) return json.map((element) => fromJson(element, reader, depth + 1));
  const fields = Object.entries(json);
  const [first] = fields;
  if (first?.[0] === `${mark}value`) return valueNamed(first[1]);
  if (first?.[0] === `${mark}array`) return reader.read(first[1], fields[1]?.[1]);
  return Object.fromEntries(fields.map(([name, value]) => [halveMark(name), fromJson(value, reader, depth + 1)]));
}

/** Hands out arrays in the order in which they were written. */
class ArrayReader {
  readonly #bytes: Uint8Array;
  #position = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  read(type: unknown, length: unknown): NumberArray {
    const Type = Object.hasOwn(arrayTypes, String(type)) ? arrayTypes[type as ArrayType] : undefined;
    if (Type === undefined) throw malformed(`holds an array of ${JSON.stringify(type)}`);
    const left = this.#bytes.byteLength - this.#position;
    const sizeBytes = Number(length) * Type.BYTES_PER_ELEMENT;
    if (!Number.isInteger(length) || sizeBytes < 0 || sizeBytes > left) {
      throw malformed(`holds an array of ${length} elements, but ${left} bytes are left`);
    }
    // A copy: elements of more than one byte stand at any place in the file.
    const bytes = new Uint8Array(this.#bytes.subarray(this.#position, this.#position + sizeBytes));
    this.#position += sizeBytes;
    return new Type(bytes.buffer);
  }

  finish(): void {
    const left = this.#bytes.byteLength - this.#position;
    if (left > 0) throw malformed(`holds ${left} bytes that belong to no array`);
  }
}

function arrayTypeOf(data: object): ArrayType | undefined {
  const names = Object.keys(arrayTypes) as ArrayType[];
  return names.find((name) => data instanceof arrayTypes[name]);
}

function valueNamed(name: unknown): unknown {
  if (!namedValues.has(name)) throw malformed(`holds an unknown value, ${JSON.stringify(name)}`);
  return namedValues.get(name);
}

function doubleMark(name: string): string {
  return name.startsWith(mark) ? mark + name : name;
}

function halveMark(name: string): string {
  if (name.startsWith(mark) && !name.startsWith(mark + mark)) throw malformed(`holds an unknown mark, ${name}`);
  return name.startsWith(mark) ? name.slice(mark.length) : name;
}

function malformed(message: string): RecoupError {
  return new RecoupError("checkpoint/malformed", message);
}
