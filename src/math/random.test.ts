import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRandom, drawWithoutRepetition, expandSeed, randomFromState } from "./random.js";

describe("randomFromState", () => {
  it("gives the numbers of the reference implementation, xoshiro128starstar.c", () => {
    const random = randomFromState([1, 2, 3, 4]);
    const expected = [11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849];
    expect(expected.map(() => random.next())).toEqual(expected);
  });
});

describe("expandSeed", () => {
  it("gives the numbers of the reference implementation, splitmix64.c", () => {
    const [a, b, c, d] = expandSeed(1234567).map(BigInt);
    expect((b << 32n) | a).toBe(6457827717110365317n);
    expect((d << 32n) | c).toBe(3203168211198807973n);
  });
});

describe("below", () => {
  it("reaches every number about equally often", () => {
    const random = createRandom(7);
    const counts = [0, 0, 0];
    for (let i = 0; i < 30000; i++) counts[random.below(3)]++;
    for (const count of counts) expect(Math.abs(count - 10000)).toBeLessThan(400);
  });
});

describe("drawWithoutRepetition", () => {
  it("draws each index at most once", () => {
    fc.assert(
      fc.property(fc.nat(200), fc.nat(250), fc.maxSafeInteger(), (length, count, seed) => {
        const drawn = drawWithoutRepetition(length, count, createRandom(seed));
        expect(drawn).toHaveLength(Math.min(length, count));
        expect(new Set(drawn).size).toBe(drawn.length);
        expect(drawn.every((index) => index >= 0 && index < length)).toBe(true);
      }),
    );
  });
});
