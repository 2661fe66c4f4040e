import { describe, expect, it } from "vitest";
import { findNotANumber } from "./not-a-number.js";
import { floatTensor, int32Tensor, tensorFromBytes } from "./tensor.js";

const floatTypes = ["float32", "float64", "float16", "bfloat16"] as const;

describe("findNotANumber", () => {
  it.each(floatTypes)("finds the first element that is not a number: %s", (type) => {
    expect(findNotANumber(floatTensor(type, [4], [1, Number.NaN, 2, Number.NaN]))).toBe(1);
    expect(findNotANumber(floatTensor(type, [1], [-Number.NaN]))).toBe(0);
  });

  it.each(floatTypes)("takes infinity and the largest numbers for numbers: %s", (type) => {
    const values = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 65504, -65504, 0, -0];
    expect(findNotANumber(floatTensor(type, [6], values))).toBe(-1);
    expect(findNotANumber(floatTensor(type, [0], []))).toBe(-1);
  });

  it("reads views that are not aligned", () => {
    const bytes = new Uint8Array(5);
    bytes.set([0, 0, 0, 0xc0, 0x7f]);
    expect(findNotANumber(tensorFromBytes("float32", [1], bytes.subarray(1)))).toBe(0);
  });

  it("finds nothing among whole numbers", () => {
    expect(findNotANumber(int32Tensor([1], [0x7fc00000]))).toBe(-1);
  });
});
