import { describe, expect, it } from "vitest";
import { makeTestModel } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import { float32Tensor } from "../tensor/tensor.js";
import { isQuantized } from "./quantized.js";

describe("isQuantized", () => {
  it.each([
    ["DequantizeLinear", true],
    ["QLinearConv", true],
    ["MatMulInteger", true],
    ["MatMulNBits", true],
    ["DynamicQuantizeLinear", true],
    ["MatMul", false],
    ["QuantileNorm", false],
  ])("of %s: %s", (opType, expected) => {
    const { model } = makeTestModel({
      feeds: { x: float32Tensor([1], [1]) },
      nodes: [makeNode(opType, ["x"], ["y"])],
      outputs: ["y"],
    });
    expect(isQuantized(model.graph)).toBe(expected);
  });
});
