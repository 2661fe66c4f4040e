import { describe, expect, it } from "vitest";
import { makeTestModel } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import { float32Tensor, float32Values, int8Tensor, integerValues, type Tensor, uint8Tensor } from "../tensor/tensor.js";
import { changeQuantized, quantizedConstant } from "./quantized-bias.js";

/** What codes of 8 bits stand for once a change was added. */
function changedValues(codes: Tensor, change: Float64Array): Float64Array {
  const {
    model: { graph },
  } = makeTestModel({
    feeds: { x: float32Tensor([1], [0]) },
    outputs: ["y"],
    nodes: [makeNode("DequantizeLinear", ["codes", "scale"], ["bias"]), makeNode("Add", ["x", "bias"], ["y"])],
    initializers: { codes, scale: float32Tensor([], [1]) },
  });
  const constant = quantizedConstant(graph, "bias");
  if (constant === undefined) throw new Error("no constant was found");
  const { dequantize, initializers } = changeQuantized(graph, constant, change, "bias");
  const [written, scale, zeroPoint] = dequantize.inputs.map((input) => initializers.get(input) as Tensor);
  const [unit, zero] = [float32Values(scale)[0], integerValues(zeroPoint)[0]];
  return Float64Array.from(integerValues(written), (code) => (code - zero) * unit);
}

describe("changeQuantized", () => {
  it("gives codes of 8 bits a grid that holds the new values, for a vocabulary of any size", () => {
    const count = 300_000;
    const codes = Array.from({ length: count }, (_, i) => i % 100);
    const change = Float64Array.from(codes, (code) => (code === 99 ? 155 : -0.25));
    for (const tensor of [uint8Tensor([count], codes), int8Tensor([count], codes)]) {
      const changed = changedValues(tensor, change);
      const unit = tensor.type === "uint8" ? (254 + 0.25) / 255 : 254 / 127;
      const worst = changed.reduce((most, value, i) => Math.max(most, Math.abs(value - codes[i] - change[i])), 0);
      expect(worst).toBeLessThan(0.51 * unit);
    }
  });
});
