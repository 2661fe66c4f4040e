import { elementCount } from "./shape.js";
import { type Tensor, tensorFromBytes } from "./tensor.js";

/** Slices of a tensor along an axis, in any order and number, as Gather takes them. Of elements of whole bytes. */
export function takeSlices(tensor: Tensor, axis: number, taken: readonly number[]): Tensor {
  const { shape } = tensor;
  const bytes = tensor.bytes();
  const outer = elementCount(shape.slice(0, axis));
  const run = bytes.length / (outer * shape[axis]);
  const result = new Uint8Array(outer * taken.length * run);
  for (let i = 0, at = 0; i < outer; i++) {
    for (const slice of taken) {
      const start = (i * shape[axis] + slice) * run;
      result.set(bytes.subarray(start, start + run), at);
      at += run;
    }
  }
  const newShape = shape.map((size, i) => (i === axis ? taken.length : size));
  return tensorFromBytes(tensor.type, newShape, result);
}
