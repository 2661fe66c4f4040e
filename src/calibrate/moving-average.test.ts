import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { float32Tensor } from "../tensor/tensor.js";
import { MovingAverageStatistic } from "./moving-average.js";

const make = () => new MovingAverageStatistic({ from: "float", value: "y" });

/** Takes in samples by their extremes. */
function take(statistic: MovingAverageStatistic, extremes: readonly (readonly [low: number, high: number])[]): void {
  for (const [low, high] of extremes) {
    statistic.update([low, high, low + high].map((value) => float32Tensor([], [value])));
  }
}

describe("MovingAverageStatistic", () => {
  it("starts with the first sample, by hand", () => {
    const statistic = make();
    expect(statistic.result()).toEqual({ low: 0, high: 0 });
    take(statistic, [[-10, 20]]);
    expect(statistic.result()).toEqual({ low: -10, high: 20 });
    take(statistic, [[-20, 40]]);
    expect(statistic.result()).toEqual({ low: -11, high: 22 });
  });

  it("is the same to the last bit however its samples are split, also where there are more than it keeps", () => {
    const sample = fc.tuple(fc.float({ noNaN: true, min: -100, max: 0 }), fc.float({ noNaN: true, min: 0, max: 100 }));
    const samples = fc.array(sample, { minLength: 1, maxLength: 1500, size: "max" });
    fc.assert(
      fc.property(samples, fc.array(fc.nat(1500), { maxLength: 4 }), (given, cuts) => {
        const whole = make();
        take(whole, given);
        const merged = make();
        const ends = [...cuts.sort((a, b) => a - b), given.length];
        for (const [part, end] of ends.entries()) {
          const statistic = make();
          take(statistic, given.slice(ends[part - 1] ?? 0, end));
          merged.mergeEncoded(statistic.encode());
        }
        expect(merged.result()).toEqual(whole.result());
      }),
      { numRuns: 50, seed: 1 },
    );
  });

  it("is close to the average over all samples where there are more than it keeps", () => {
    const statistic = make();
    take(statistic, [[-1000, 1000], ...Array.from({ length: 2000 }, () => [-1, 2] as const)]);
    expect(statistic.result().low).toBeCloseTo(-1, 12);
    expect(statistic.result().high).toBeCloseTo(2, 12);
  });

  it("refuses what is no list of ranges", () => {
    for (const numbers of [[1, 0], [Number.NaN, 1], [0, Number.POSITIVE_INFINITY], [1]]) {
      expect(() => make().mergeEncoded(new Uint8Array(Float64Array.from(numbers).buffer))).toThrow(
        expect.objectContaining({ code: "statistics/malformed" }),
      );
    }
  });
});
