import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { makeTestModel } from "../../test/models.js";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import type { ChannelSums } from "../calibrate/channel-lines.js";
import { readNpz } from "../data/npz.js";
import { makeNode } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { float32Tensor, float32Values, float64Values, type Tensor } from "../tensor/tensor.js";
import { lineOf } from "./affine.js";
import { writeLines } from "./fold-affine.js";

describe.skipIf(!sharedFolder)("lines of channels against the reference program", () => {
  it("has its gains and offsets, shrunk too", () => {
    const arrays = readNpz(readFileSync(sharedPath("oracles", "qwt-v2.npz")));
    const valuesOf = (name: string) => float64Values(arrays.get(name) as Tensor);
    const sums = sumChannels(valuesOf("y_q"), valuesOf("y_fp"), valuesOf("gamma").length);
    const plain = lineOf(sums, 0);
    expectClose(plain.gain, valuesOf("gamma"));
    expectClose(plain.offset, valuesOf("beta"));
    const channels = plain.gain.length;
    const [q, y] = [valuesOf("y_q"), valuesOf("y_fp")];
    const corrected = q.map((value, i) => plain.gain[i % channels] * value + plain.offset[i % channels]);
    expectClose(corrected, valuesOf("y_comp"));
    const errorOf = (values: Float64Array) =>
      values.reduce((sum, value, i) => sum + (value - y[i]) ** 2, 0) / values.length;
    expect(errorOf(q)).toBeCloseTo(valuesOf("mse_before")[0], 9);
    expect(errorOf(corrected)).toBeCloseTo(valuesOf("mse_after")[0], 9);
    for (const [i, tau] of valuesOf("taus").entries()) {
      const { gain, offset } = lineOf(sums, tau);
      expectClose(gain, valuesOf("gamma_shrunk").subarray(i * channels, (i + 1) * channels));
      expectClose(offset, valuesOf("beta_shrunk").subarray(i * channels, (i + 1) * channels));
    }
  });

  it("go into weights and biases as there", () => {
    const arrays = readNpz(readFileSync(sharedPath("oracles", "qwt-v2.npz")));
    const tensorOf = (name: string) => {
      const tensor = arrays.get(name) as Tensor;
      return float32Tensor(tensor.shape, float64Values(tensor));
    };
    const [w, b] = [tensorOf("fold_weight"), tensorOf("fold_bias")];
    const { graph } = makeTestModel({
      feeds: { x: float32Tensor([1, w.shape[1]], new Float32Array(w.shape[1])) },
      nodes: [makeNode("Gemm", ["x", "w", "b"], ["y"], { transB: 1 })],
      initializers: { w, b },
      outputs: ["y"],
    }).model;
    const [gain, offset] = ["gamma", "beta"].map((name) => float64Values(arrays.get(name) as Tensor));
    const place = { value: "y", product: "y", axisFromEnd: -1, elementType: "float32" } as const;
    const { initializers } = applyPatch(graph, writeLines(graph, place, { gain, offset }));
    for (const [name, wanted] of [
      ["w", "folded_weight"],
      ["b", "folded_bias"],
    ] as const) {
      const expected = float64Values(arrays.get(wanted) as Tensor);
      const values = float32Values(initializers.get(name) as Tensor);
      expect(values).toHaveLength(expected.length);
      // Stored in float32.
      const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      for (const [i, value] of expected.entries()) expect(Math.abs(values[i] - value) / scale).toBeLessThan(2e-5);
    }
  });
});

function sumChannels(q: Float64Array, y: Float64Array, channels: number): ChannelSums {
  const none = () => new Float64Array(channels);
  const sums = { count: none(), q: none(), e: none(), qq: none(), qe: none() };
  for (const [i, value] of q.entries()) {
    const channel = i % channels;
    const error = y[i] - value;
    sums.count[channel]++;
    sums.q[channel] += value;
    sums.e[channel] += error;
    sums.qq[channel] += value * value;
    sums.qe[channel] += value * error;
  }
  return sums;
}

function expectClose(actual: Float64Array, expected: Float64Array): void {
  for (const [i, value] of expected.entries()) expect(Math.abs(actual[i] - value)).toBeLessThan(1e-9);
}
