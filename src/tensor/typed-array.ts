import type { ElementType } from "./element-type.js";

/** The arrays of the language by element types. Elements of float16 stand in one as their bits. */
const arrayTypes = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
} as const;

/** The array for elements of a type; undefined where the language has none. */
export function arrayTypeOf(type: ElementType) {
  return arrayTypes[type as keyof typeof arrayTypes] as (typeof arrayTypes)[keyof typeof arrayTypes] | undefined;
}

/** Elements as an array of their type, a copy or a view; undefined where the language has none. */
export function typedArrayOf(type: ElementType, bytes: Uint8Array) {
  const arrayType = arrayTypeOf(type);
  return arrayType && new arrayType(...aligned(bytes, arrayType.BYTES_PER_ELEMENT));
}

/**
 * Bytes as what a typed array is made of. Views of a file are at any address; typed arrays are not: copied where they must
 * be. `slice` of a Node buffer copies nothing.
 *
 * @param size of an element in bytes
 */
export function aligned(bytes: Uint8Array, size: number): [buffer: ArrayBuffer, offset: number, length: number] {
  const source = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  return [source.buffer as ArrayBuffer, source.byteOffset, source.byteLength / size];
}
