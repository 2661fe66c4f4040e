import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chooseSamples } from "./choose.js";

describe("chooseSamples", () => {
  it("takes all where there are not more than asked for", () => {
    expect(chooseSamples(3, 3, 1)).toEqual([0, 1, 2]);
    expect(chooseSamples(3, 9, 1)).toEqual([0, 1, 2]);
    expect(chooseSamples(0, 9, 1)).toEqual([]);
  });

  it("stays the same from version to version: recipes name a seed", () => {
    expect(chooseSamples(100, 6, 0)).toMatchInlineSnapshot(`
      [
        5,
        47,
        56,
        58,
        64,
        94,
      ]
    `);
  });

  it("is ascending, without repetition, and the same for the same seed", () => {
    fc.assert(
      fc.property(fc.nat(300), fc.nat(300), fc.nat(), (length, count, seed) => {
        const chosen = chooseSamples(length, count, seed);
        expect(chosen).toHaveLength(Math.min(length, count));
        expect(chosen.every((index, i) => i === 0 || chosen[i - 1] < index)).toBe(true);
        expect(chooseSamples(length, count, seed)).toEqual(chosen);
      }),
    );
  });
});
