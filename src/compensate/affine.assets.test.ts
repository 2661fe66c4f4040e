import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import type { ChannelSums } from "../calibrate/channel-lines.js";
import { readNpz } from "../data/npz.js";
import { float64Values, type Tensor } from "../tensor/tensor.js";
import { lineOf } from "./affine.js";

describe.skipIf(!sharedFolder)("lines of channels against the reference program", () => {
  it("has its gains and offsets, shrunk too", () => {
    const arrays = readNpz(readFileSync(sharedPath("oracles", "qwt-v2.npz")));
    const valuesOf = (name: string) => float64Values(arrays.get(name) as Tensor);
    const sums = sumChannels(valuesOf("y_q"), valuesOf("y_fp"), valuesOf("gamma").length);
    const plain = lineOf(sums, 0);
    expectClose(plain.gain, valuesOf("gamma"));
    expectClose(plain.offset, valuesOf("beta"));
    const channels = plain.gain.length;
    for (const [i, tau] of valuesOf("taus").entries()) {
      const { gain, offset } = lineOf(sums, tau);
      expectClose(gain, valuesOf("gamma_shrunk").subarray(i * channels, (i + 1) * channels));
      expectClose(offset, valuesOf("beta_shrunk").subarray(i * channels, (i + 1) * channels));
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
