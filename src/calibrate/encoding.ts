import { RecoupError } from "../errors.js";
import { bytesOf } from "../tensor/tensor.js";

/** Numbers as the bytes of float64, little endian. */
export function bytesOfNumbers(numbers: Iterable<number>): Uint8Array {
  return bytesOf(Float64Array.from(numbers));
}

/**
 * The numbers that `bytesOfNumbers` was given.
 *
 * @throws RecoupError `statistics/malformed` for bytes that are no whole number of float64
 */
export function numbersOfBytes(bytes: Uint8Array): Float64Array {
  if (bytes.byteLength % 8 !== 0) throw malformed(`has ${bytes.byteLength} bytes, which are no float64 numbers`);
  // Bytes may start at an odd place of their buffer, and `slice` of a Node buffer copies nothing.
  return new Float64Array(new Uint8Array(bytes).buffer);
}

export function malformed(message: string): RecoupError {
  return new RecoupError("statistics/malformed", message);
}
