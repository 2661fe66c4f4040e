import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chooseSamples, splitSamples } from "./choose.js";

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

describe("splitSamples", () => {
  it("holds back the share asked for", () => {
    const { calibration, heldBack } = splitSamples([10, 20, 30, 40], 0.25, 3);
    expect(calibration).toHaveLength(3);
    expect(heldBack).toHaveLength(1);
  });

  it("holds back nothing for a share of 0, and nothing of a single sample", () => {
    expect(splitSamples([1, 2], 0, 3)).toEqual({ calibration: [1, 2], heldBack: [] });
    expect(splitSamples([5], 0.5, 3)).toEqual({ calibration: [5], heldBack: [] });
  });

  it("puts each index into one part and keeps the order", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.nat()),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.nat(),
        (all, share, seed) => {
          const { calibration, heldBack } = splitSamples(all, share, seed);
          expect([...calibration, ...heldBack].sort((a, b) => a - b)).toEqual([...all].sort((a, b) => a - b));
          expect(calibration).toEqual(all.filter((index) => calibration.includes(index)));
          if (all.length > 1 && share > 0) expect(Math.min(calibration.length, heldBack.length)).toBeGreaterThan(0);
        },
      ),
    );
  });
});
