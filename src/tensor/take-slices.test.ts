import { describe, expect, it } from "vitest";
import { takeSlices } from "./take-slices.js";
import { float32Tensor, float32Values } from "./tensor.js";

describe("takeSlices", () => {
  const tensor = float32Tensor([2, 3, 1], [0, 1, 2, 3, 4, 5]);
  it.each([
    [0, [1], [1, 3, 1], [3, 4, 5]],
    [1, [2, 0, 2, 1], [2, 4, 1], [2, 0, 2, 1, 5, 3, 5, 4]],
    [2, [0, 0], [2, 3, 2], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]],
    [1, [], [2, 0, 1], []],
  ])("along axis %i: %j", (axis, taken, shape, values) => {
    const result = takeSlices(tensor, axis, taken);
    expect([result.shape, [...float32Values(result)]]).toEqual([shape, values]);
  });
});
