import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Half, moveSlowly, outputsOf, seenIn } from "../../test/halves.js";
import { type Matrix, rowsOf, someInputs, someMatrix } from "../../test/slow-rounding.js";
import { rememberFactors } from "./factors.js";
import { moveWeight } from "./move.js";

function move(rows: Matrix, halves: readonly Half[], damping: number): number[][] {
  const { gram, cross } = seenIn(halves);
  const options = { order: "activation", damping } as const;
  const given = Float32Array.from(rows.flat());
  const moved = moveWeight(given, rows.length, gram, cross, options, rememberFactors());
  expect(given).toEqual(Float32Array.from(rows.flat()));
  return rowsOf(moved, rows.length);
}

function expectClose(actual: Matrix, expected: Matrix, tolerance = 1e-5): void {
  const [found, wanted] = [actual.flat(), expected.flat()];
  expect(found).toHaveLength(wanted.length);
  for (const [i, value] of found.entries()) expect(Math.abs(value - wanted[i])).toBeLessThanOrEqual(tolerance);
}

function scaled(matrix: Matrix, factor: number): Matrix {
  return matrix.map((row) => row.map((value) => factor * value));
}

function sum(a: Matrix, b: Matrix): Matrix {
  return a.map((row, i) => row.map((value, k) => value + b[i][k]));
}

describe("moveWeight", () => {
  const inputs = someInputs(40, 6, 1);
  const rows = someMatrix(3, 6, 2);
  const change = someMatrix(3, 6, 3);
  /** A half of the samples on which a part of the change is missing. */
  const half = (share: number, own: Matrix = inputs): Half => ({
    inputs: [own],
    errors: [scaled(outputsOf(own, change), share)],
  });

  it("goes all the way where both halves tell the same", () => {
    expectClose(move(rows, [half(1), half(1)], 0), sum(rows, change));
    expectClose(move(rows, [half(1), half(1, someInputs(40, 6, 9))], 0), sum(rows, change));
  });

  it("stays where the halves contradict each other", () => {
    const stay = rows.map((row) => row.map(Math.fround));
    expect(move(rows, [half(1), half(-1)], 0.01)).toEqual(stay);
    // All samples together would still move it, by a quarter.
    expect(move(rows, [half(1), half(-0.5)], 0.01)).toEqual(stay);
    expect(move(rows, [half(1), half(0.1)], 0.01)).not.toEqual(stay);
  });

  it("goes as far as the one half bears out the other", () => {
    // Δ and cΔ on the same inputs: t = 2c / (1 + c²) of the mean, (1 + c) / 2 of Δ. For c = ½: 0.8 · 0.75.
    expectClose(move(rows, [half(1), half(0.5)], 0), sum(rows, scaled(change, 0.6)));
    // For c = 0 nothing is borne out.
    expectClose(move(rows, [half(1), half(0)], 0), rows);
  });

  it("moves nothing where there is one half only: nothing says that it would hold", () => {
    expectClose(move(rows, [half(1)], 0), rows);
  });

  it("stays where nothing is missing", () => {
    expectClose(move(rows, [half(0), half(0)], 0.01), rows, 1e-7);
    expectClose(move(rows, [half(0)], 0.01), rows, 1e-7);
  });

  it("decides on each group of channels by itself", () => {
    const other = someInputs(40, 6, 5);
    const halves = [1, -1].map(
      (share): Half => ({
        inputs: [inputs, other],
        errors: [outputsOf(inputs, change.slice(0, 1)), scaled(outputsOf(other, change.slice(1, 2)), share)],
      }),
    );
    expectClose(move(rows.slice(0, 2), halves, 0), [sum(rows, change)[0], rows[1]]);
  });

  it("does what a person would do by hand", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 500 }),
        fc.integer({ min: 1, max: 2 }),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 3 }),
        fc.tuple(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 20 })),
        fc.constantFrom(0.01, 0.3),
        (seed, groups, size, groupRows, counts, damping) => {
          const weights = Array.from({ length: groups }, (_, g) => someMatrix(groupRows, size, seed + 40 * g));
          const halves = counts.map((count, i): Half => {
            const own = weights.map((_, g) => someInputs(count, size, seed + 10 * i + 100 * g));
            const errors = own.map((matrix, g) => {
              const noise = someMatrix(count, groupRows, seed + 2 + i + g);
              return sum(outputsOf(matrix, someMatrix(groupRows, size, seed + 1 + g)), noise);
            });
            return { inputs: own, errors };
          });
          const expected = weights.flatMap((weight, g) => {
            const own = halves.map(({ inputs: all, errors }): Half => ({ inputs: [all[g]], errors: [errors[g]] }));
            return moveSlowly(weight, own, damping);
          });
          expectClose(move(weights.flat(), halves, damping), expected, 1e-4);
        },
      ),
      { seed: 1, numRuns: 60 },
    );
  });

  it.each([
    ["inputs far smaller than what is missing", 1e-15, 1e15],
    ["inputs far larger than what is missing", 1e18, 1e-18],
    ["nothing but zeros in the input", 0, 1],
  ])("stays finite with %s", (_about, unit, lack) => {
    const own = scaled(inputs, unit);
    const halves = [1, 2].map((seed): Half => ({ inputs: [own], errors: [scaled(someMatrix(40, 3, seed), lack)] }));
    for (const given of [halves, halves.slice(0, 1)]) {
      const moved = move(rows, given, 0.01);
      expect(moved.flat().every(Number.isFinite)).toBe(true);
    }
  });
});
