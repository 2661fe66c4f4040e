import { isFloatType } from "./element-type.js";
import type { Tensor } from "./tensor.js";
import { aligned } from "./typed-array.js";

/** The place of the first element that is not a number, -1 where there is none; infinity is one. */
export function findNotANumber(tensor: Tensor): number {
  const { type } = tensor;
  if (!isFloatType(type)) return -1;
  const bytes = tensor.bytes();
  switch (type) {
    case "float32":
      return findInReals(new Float32Array(...aligned(bytes, 4)));
    case "float64":
      return findInReals(new Float64Array(...aligned(bytes, 8)));
    case "float16":
      return findInHalves(bytes, 0x7c00);
    case "bfloat16":
      return findInHalves(bytes, 0x7f80);
  }
}

/** A loop over the array itself: an iterator or a callback takes several times as long. */
function findInReals(values: Float32Array | Float64Array): number {
  for (let i = 0; i < values.length; i++) if (Number.isNaN(values[i])) return i;
  return -1;
}

/** @param infinity its bits: with any bit of the fraction beside them they are not a number */
function findInHalves(bytes: Uint8Array, infinity: number): number {
  const codes = new Uint16Array(...aligned(bytes, 2));
  for (let i = 0; i < codes.length; i++) if ((codes[i] & 0x7fff) > infinity) return i;
  return -1;
}
