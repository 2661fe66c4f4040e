import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nearest } from "../../test/fake-quantize.js";
import { distributionOf } from "../math/distribution.js";
import { errorOnLevels } from "./estimators/estimator.js";
import type { Bits } from "./format.js";
import { type ActivationGrid, chooseActivationGrid, levelsOfGrid, refineGrid, usableScale } from "./grid.js";

const grids = fc
  .record({
    low: fc.float({ min: -100, max: 100, noNaN: true }),
    span: fc.float({ min: Math.fround(1e-3), max: 100, noNaN: true }),
    bits: fc.constantFrom<Bits>(2, 3, 4, 5, 6, 7, 8),
    symmetric: fc.boolean(),
  })
  .map(({ low, span, bits, symmetric }) => ({
    range: { low, high: low + span },
    grid: chooseActivationGrid({ low, high: low + span }, bits, symmetric),
  }));

/** What QuantizeLinear and the limit of the bits make of a value. */
function codeOf(value: number, { scale, zeroPoint, bits }: ActivationGrid): number {
  const code = nearest(Math.fround(value / scale)) + zeroPoint;
  return Math.min(Math.max(code, 0), 2 ** bits - 1);
}

function restore(code: number, { scale, zeroPoint }: ActivationGrid): number {
  return Math.fround((code - zeroPoint) * scale);
}

describe("a grid that is not uniform", () => {
  it.each(["log", "twin"] as const)("costs what its codes cost: %s", (spacing) => {
    const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 80 });
    fc.assert(
      fc.property(shares, fc.constantFrom<Bits>(2, 3, 4, 5, 6, 7), (values, bits) => {
        const grid = chooseActivationGrid({ low: -1, high: 0.7 }, bits, false, spacing);
        const codes = grid.codes as readonly number[];
        const error = (value: number) => {
          const code = Math.min(Math.round(value / grid.scale), 255);
          const distances = codes.map((other) => Math.abs(other - code));
          return (codes[distances.indexOf(Math.min(...distances))] * grid.scale - value) ** 2;
        };
        const expected = values.map(error).reduce((sum, one) => sum + one, 0);
        const found = errorOnLevels(distributionOf(Float64Array.from(values).sort()), levelsOfGrid(grid));
        expect(found).toBeCloseTo(expected, 6);
      }),
      { seed: 1 },
    );
  });

  it("is a part of an 8-bit grid from zero to the end of the range", () => {
    const grid = chooseActivationGrid({ low: -1, high: 2 }, 4, true, "log");
    expect(grid).toMatchObject({ scale: Math.fround(2 / 255), zeroPoint: 0, bits: 4 });
    expect(refineGrid(grid)).toEqual({ scale: grid.scale, zeroPoint: 0, bits: 8 });
  });
});

describe("chooseActivationGrid", () => {
  it.each([
    [{ low: -1, high: 2 }, 2, false, { scale: 1, zeroPoint: 1, bits: 2 }],
    [{ low: 1, high: 510 }, 8, false, { scale: 2, zeroPoint: 0, bits: 8 }],
    [{ low: -15, high: -3 }, 4, false, { scale: 1, zeroPoint: 15, bits: 4 }],
    [{ low: -1, high: 127 }, 8, true, { scale: 1, zeroPoint: 128, bits: 8 }],
    [{ low: 0, high: 0 }, 8, false, { scale: 1, zeroPoint: 0, bits: 8 }],
    [{ low: 0, high: 1e-44 }, 8, false, { scale: 1, zeroPoint: 0, bits: 8 }],
  ] as const)("covers %j in %i bits, symmetric %s", (range, bits, symmetric, grid) => {
    expect(chooseActivationGrid(range, bits, symmetric)).toEqual(grid);
  });

  it("has zero, and every value of the range within half a step", () => {
    fc.assert(
      fc.property(grids, fc.double({ min: 0, max: 1, noNaN: true }), ({ range, grid }, share) => {
        expect(Number.isInteger(grid.zeroPoint) && codeOf(0, grid) === grid.zeroPoint).toBe(true);
        const value = Math.fround(range.low + share * (range.high - range.low));
        expect(Math.abs(restore(codeOf(value, grid), grid) - value)).toBeLessThanOrEqual(grid.scale * 0.50001);
      }),
      { seed: 1 },
    );
  });

  it("changes nothing when a value on the grid is rounded again", () => {
    fc.assert(
      fc.property(grids, fc.nat(255), ({ grid }, number) => {
        const code = number % 2 ** grid.bits;
        expect(codeOf(restore(code, grid), grid)).toBe(code);
      }),
      { seed: 1 },
    );
  });
});

describe("refineGrid", () => {
  it("puts an odd number of steps into one", () => {
    expect(refineGrid({ scale: 17, zeroPoint: 3, bits: 4 })).toEqual({ scale: 1, zeroPoint: 51, bits: 8 });
    expect(refineGrid({ scale: 3, zeroPoint: 10, bits: 6 })).toEqual({ scale: 1, zeroPoint: 30, bits: 8 });
  });

  it("lets a value be rounded to it first without another coarse code coming out", () => {
    // Where in a step a value lies: not at a tie, which one ulp decides.
    const shares = fc.double({ min: -0.499, max: 0.499, noNaN: true });
    fc.assert(
      fc.property(grids, fc.integer({ min: -40, max: 300 }), shares, ({ grid }, step, share) => {
        const value = Math.fround((step + share) * grid.scale);
        const fine = refineGrid(grid);
        expect(codeOf(restore(codeOf(value, fine), fine), grid)).toBe(codeOf(value, grid));
      }),
      { seed: 1, numRuns: 1000 },
    );
  });
});

describe("usableScale", () => {
  it.each([0, -0, 1e-45, Number.POSITIVE_INFINITY, Number.NaN])("takes 1 for %d", (scale) => {
    expect(usableScale(scale)).toBe(1);
  });

  it("rounds to float32", () => {
    expect(usableScale(0.1)).toBe(Math.fround(0.1));
  });
});
