import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { pairedDifference, wilsonInterval } from "./intervals.js";

describe("wilsonInterval", () => {
  // Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I, method 3.
  it.each([
    [81, 263, 25.53, 36.62],
    [15, 148, 6.24, 16.05],
    [0, 20, 0, 16.11],
    [1, 29, 0.61, 17.18],
  ])("%i of %i lies between %f and %f percent", (hits, count, low, high) => {
    const interval = wilsonInterval(hits, count);
    expect(interval[0]).toBeCloseTo(low, 2);
    expect(interval[1]).toBeCloseTo(high, 2);
  });

  it("knows nothing of no samples", () => {
    expect(wilsonInterval(0, 0)).toEqual([0, 100]);
  });

  it("holds the share, mirrors, and narrows with the number of samples", () => {
    const counts = fc
      .integer({ min: 1, max: 5000 })
      .chain((n) => fc.tuple(fc.integer({ min: 0, max: n }), fc.constant(n)));
    fc.assert(
      fc.property(counts, ([hits, count]) => {
        const [low, high] = wilsonInterval(hits, count);
        expect(low).toBeGreaterThanOrEqual(0);
        expect(high).toBeLessThanOrEqual(100);
        expect(low).toBeLessThanOrEqual((100 * hits) / count + 1e-9);
        expect(high).toBeGreaterThanOrEqual((100 * hits) / count - 1e-9);
        const [otherLow, otherHigh] = wilsonInterval(count - hits, count);
        expect(otherLow).toBeCloseTo(100 - high, 8);
        expect(otherHigh).toBeCloseTo(100 - low, 8);
        const [fewLow, fewHigh] = wilsonInterval(hits * 4, count * 4);
        expect(fewHigh - fewLow).toBeLessThan(high - low);
      }),
      { numRuns: 200, seed: 1 },
    );
  });
});

describe("pairedDifference", () => {
  it("is what the differences of single samples say", () => {
    const cases = fc
      .tuple(fc.nat(40), fc.nat(40), fc.nat(40))
      .filter(([wins, losses, ties]) => wins + losses + ties > 0);
    fc.assert(
      fc.property(cases, ([wins, losses, ties]) => {
        const each = [wins, losses, ties].flatMap((n, i) => new Array<number>(n).fill([1, -1, 0][i]));
        const mean = each.reduce((sum, value) => sum + value, 0) / each.length;
        const variance = each.reduce((sum, value) => sum + (value - mean) ** 2, 0) / each.length;
        const half = 1.959963984540054 * Math.sqrt(variance / each.length);
        const { difference, confidence95 } = pairedDifference(wins, losses, each.length);
        expect(difference).toBeCloseTo(100 * mean, 8);
        expect(confidence95[0]).toBeCloseTo(100 * (mean - half), 6);
        expect(confidence95[1]).toBeCloseTo(100 * (mean + half), 6);
      }),
      { numRuns: 100, seed: 1 },
    );
  });

  it("is narrower than the interval of either share", () => {
    const [low, high] = pairedDifference(12, 10, 1000).confidence95;
    const [shareLow, shareHigh] = wilsonInterval(800, 1000);
    expect(high - low).toBeLessThan(shareHigh - shareLow);
  });

  it("knows nothing of no samples", () => {
    expect(pairedDifference(0, 0, 0)).toEqual({ difference: 0, confidence95: [-100, 100] });
  });
});
