import { describe, expect, it } from "vitest";
import { float32Tensor } from "../tensor/tensor.js";
import { ChannelRowsStatistic } from "./channel-rows.js";

const make = (channels = 2) => new ChannelRowsStatistic({ from: "float", value: "y" }, 2, 1, channels);

/** Takes in runs of rows. */
function take(statistic: ChannelRowsStatistic, runs: readonly (readonly number[])[]): ChannelRowsStatistic {
  for (const values of runs) statistic.update([float32Tensor([values.length / 2, 2], values)]);
  return statistic;
}

describe("ChannelRowsStatistic", () => {
  it("keeps every other run apart, however runs are merged", () => {
    const runs = [
      [1, 2],
      [3, 4, 5, 6],
      [7, 8],
      [9, 10],
    ];
    const whole = take(make(), runs).result();
    expect(whole.halves.map((half) => [...half])).toEqual([
      [1, 2, 7, 8],
      [3, 4, 5, 6, 9, 10],
    ]);
    for (const cut of [0, 1, 2, 3, 4]) {
      const merged = take(make(), runs.slice(0, cut));
      merged.merge(take(make(), runs.slice(cut)));
      expect(merged.result()).toEqual(whole);
      const decoded = take(make(), runs.slice(0, cut));
      decoded.mergeEncoded(take(make(), runs.slice(cut)).encode());
      expect(decoded.result()).toEqual(whole);
    }
  });

  it("does not grow without bound", () => {
    const statistic = make(2 ** 19);
    for (let run = 0; run < 6; run++)
      statistic.update([float32Tensor([1, 2 ** 19], new Float32Array(2 ** 19).fill(run))]);
    const { halves } = statistic.result();
    expect(halves.map((half) => [half.length, half[0], half.at(-1)])).toEqual([
      [2 ** 20, 0, 2],
      [2 ** 20, 1, 3],
    ]);
  });

  it("does not take in what is no rows of its channels", () => {
    const encoded = take(make(), [[1, 2]]).encode();
    expect(() => make(3).mergeEncoded(encoded)).toThrow(/no rows of channels/);
  });
});
