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
  // contingencytables 3.1 (Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, 2017, chapter 8),
  // tests/testthat/test-ch8.R: complete response to consolidation therapy, Cavo et al., 2012, with the pseudo-frequencies
  // of Agresti and Min.
  it("is the published one", () => {
    const { difference, confidence95 } = pairedDifference(6, 16, 59 + 6 + 16 + 80);
    expect(difference).toBeCloseTo(-6.21, 2);
    expect(confidence95[0]).toBeCloseTo(-11.82, 2);
    expect(confidence95[1]).toBeCloseTo(-0.45, 2);
  });

  const cases = fc.tuple(fc.nat(40), fc.nat(40), fc.nat(40)).filter(([wins, losses, ties]) => wins + losses + ties > 0);

  it("is what the differences of single samples say, half a one more in each cell", () => {
    fc.assert(
      fc.property(cases, ([wins, losses, ties]) => {
        const cells = [wins + 0.5, losses + 0.5, ties + 1];
        const signs = [1, -1, 0];
        const weighted = (value: (sign: number) => number) =>
          cells.reduce((sum, weight, i) => sum + weight * value(signs[i]), 0);
        const total = weighted(() => 1);
        const mean = weighted((sign) => sign) / total;
        const variance = weighted((sign) => (sign - mean) ** 2) / total;
        const half = 1.959963984540054 * Math.sqrt(variance / total);
        const { difference, confidence95 } = pairedDifference(wins, losses, wins + losses + ties);
        expect(difference).toBeCloseTo((100 * (wins - losses)) / (wins + losses + ties), 8);
        expect(confidence95[0]).toBeCloseTo(Math.max(-100, 100 * (mean - half)), 6);
        expect(confidence95[1]).toBeCloseTo(Math.min(100, 100 * (mean + half)), 6);
      }),
      { numRuns: 100, seed: 1 },
    );
  });

  it("holds the difference, stays within ±100 and never claims to be certain", () => {
    fc.assert(
      fc.property(cases, ([wins, losses, ties]) => {
        const { difference, confidence95 } = pairedDifference(wins, losses, wins + losses + ties);
        const [low, high] = confidence95;
        expect(low).toBeGreaterThanOrEqual(-100);
        expect(high).toBeLessThanOrEqual(100);
        expect(low).toBeLessThanOrEqual(difference + 1e-9);
        expect(high).toBeGreaterThanOrEqual(difference - 1e-9);
        expect(high - low).toBeGreaterThan(0.1);
      }),
      { numRuns: 300, seed: 1 },
    );
    const [low, high] = pairedDifference(0, 0, 10).confidence95;
    expect([low, high]).toEqual([expect.closeTo(-16.33, 2), expect.closeTo(16.33, 2)]);
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
