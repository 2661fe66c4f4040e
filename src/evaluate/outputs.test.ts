import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { argMax, describeDb, divergence, isAmongLargest, isAsFinite, signalNoise, sqnrDb } from "./outputs.js";

const of = (...values: readonly number[]) => Float32Array.from(values);
const { NEGATIVE_INFINITY: never, NaN: unknown } = Number;

describe("argMax", () => {
  it.each([
    [[1, 3, 2], 1],
    [[3, 1, 3], 0],
    [[-5, -2, -2], 1],
    [[unknown, 1, 2], 2],
    [[1, unknown, 2], 2],
    [[never, never], 0],
    [[unknown, never], 1],
    [[unknown, unknown], -1],
    [[], -1],
  ])("of %j is at %i", (values, expected) => {
    expect(argMax(of(...values))).toBe(expected);
  });
});

describe("isAmongLargest", () => {
  it("is what sorting says, the lower index first among equals", () => {
    const values = fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(values, fc.nat(11), fc.integer({ min: 1, max: 6 }), (given, place, k) => {
        const index = place % given.length;
        const order = given.map((_, i) => i).sort((a, b) => given[b] - given[a] || a - b);
        expect(isAmongLargest(of(...given), index, k)).toBe(order.indexOf(index) < k);
      }),
      { numRuns: 300, seed: 1 },
    );
  });

  it("takes what is not a number for no answer", () => {
    expect(isAmongLargest(of(unknown, unknown), 0, 5)).toBe(false);
    expect(isAmongLargest(of(unknown, 1), 1, 1)).toBe(true);
  });

  it("holds with fewer classes than asked for", () => {
    expect(isAmongLargest(of(3, 2), 1, 5)).toBe(true);
  });
});

describe("divergence", () => {
  const logits = fc.array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 2, maxLength: 8 });

  it("of logits is that of their softmax", () => {
    fc.assert(
      fc.property(logits, logits, (a, b) => {
        const size = Math.min(a.length, b.length);
        const [left, right] = [of(...a.slice(0, size)), of(...b.slice(0, size))];
        fc.pre(!isDistribution(left));
        expect(divergence(left, right)).toBeCloseTo(slowDivergence(softmax(left), softmax(right)), 9);
      }),
      { numRuns: 300, seed: 1 },
    );
  });

  it("of probabilities is that of them as they are", () => {
    const [left, right] = [of(0.7, 0.2, 0.1), of(0.5, 0.25, 0.25)];
    const expected = 0.7 * Math.log(0.7 / 0.5) + 0.2 * Math.log(0.2 / 0.25) + 0.1 * Math.log(0.1 / 0.25);
    expect(divergence(left, right)).toBeCloseTo(expected, 6);
    const twice = softmax(left);
    expect(divergence(left, right)).not.toBeCloseTo(slowDivergence(twice, softmax(right)), 2);
  });

  it("does not become infinite where a quantized Softmax gives zero", () => {
    const found = divergence(of(0.5, 0.5), of(1, 0));
    expect(found).toBeGreaterThan(10);
    expect(found).toBeLessThan(20);
  });

  it.each([
    [of(0, 1, 0), of(0, 1, 0)],
    [of(3, -2, 8), of(3, -2, 8)],
    [of(3, -2, 8), of(13, 8, 18)],
    [of(300, -400), of(300, -400)],
    [of(1, never), of(1, never)],
    [of(1, never), of(1, -30)],
  ])("of %j from %j is nothing", (left, right) => {
    expect(divergence(left, right)).toBeCloseTo(0, 6);
  });

  it("is infinite where a model rules out what the other one finds likely", () => {
    expect(divergence(of(1, 2), of(1, never))).toBe(Number.POSITIVE_INFINITY);
  });

  it("is never negative, and is not a number where an output is not", () => {
    fc.assert(fc.property(logits, (a) => divergence(of(...a), of(...a.map((v) => v * (1 + 1e-7)))) >= 0));
    expect(divergence(of(1, unknown), of(1, 2))).toBeNaN();
  });
});

describe("sqnrDb", () => {
  it("is 10 for a tenth of the power, and infinite without noise", () => {
    expect(sqnrDb(signalNoise(of(3, 4), of(3, 4)))).toBe(Number.POSITIVE_INFINITY);
    expect(sqnrDb(signalNoise(of(0, 0), of(0, 0)))).toBe(Number.POSITIVE_INFINITY);
    expect(sqnrDb({ signal: 10, noise: 1 })).toBeCloseTo(10, 12);
    expect(sqnrDb(signalNoise(of(10, 0), of(9, 0)))).toBeCloseTo(20, 12);
  });

  it("takes the same infinity on both sides for no error", () => {
    expect(sqnrDb(signalNoise(of(3, never), of(3, never)))).toBe(Number.POSITIVE_INFINITY);
    expect(sqnrDb(signalNoise(of(10, never, -never), of(9, never, -never)))).toBeCloseTo(20, 12);
  });

  it.each([
    ["NaN for a number", [1, 2], [1, unknown]],
    ["a number for NaN", [1, unknown], [1, 2]],
    ["NaN on both sides", [1, unknown], [1, unknown]],
    ["infinity for a number", [1, 2], [1, never]],
    ["a number for infinity", [1, never], [1, 2]],
    ["the other infinity", [1, never], [1, -never]],
    ["an error where there is no signal", [0, 0], [0, 1]],
  ])("is all error for %s", (_about, left, right) => {
    expect(sqnrDb(signalNoise(of(...left), of(...right)))).toBe(never);
  });

  it("is all error where sums of squares overflowed", () => {
    expect(sqnrDb({ signal: Number.POSITIVE_INFINITY, noise: 1 })).toBe(never);
  });
});

describe("describeDb", () => {
  it("does not call the worst ratio none", () => {
    expect([12.34, Number.POSITIVE_INFINITY, never].map(describeDb)).toEqual(["12.3 dB", "no error", "all error"]);
  });
});

describe("isAsFinite", () => {
  it.each([
    [[1, 2], [3, 4], true],
    [[1, 2], [1, unknown], false],
    [[1, 2], [1, never], false],
    [[1, unknown, never], [1, 2, unknown], true],
  ])("of %j and %j", (left, right, expected) => {
    expect(isAsFinite(of(...left), of(...right))).toBe(expected);
  });
});

function softmax(values: Float32Array): readonly number[] {
  const largest = Math.max(...values);
  const powers = Array.from(values, (value) => Math.exp(value - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function slowDivergence(p: readonly number[], q: readonly number[]): number {
  return p.reduce((sum, share, i) => sum + (share > 0 ? share * Math.log(share / q[i]) : 0), 0);
}

function isDistribution(values: Float32Array): boolean {
  const sum = values.reduce((total, value) => total + value, 0);
  return values.every((value) => value >= 0 && value <= 1) && Math.abs(sum - 1) < 1e-3;
}
