import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { factorize, solveFactored } from "./factor.js";
import { createRandom } from "./random.js";

describe("factorize", () => {
  it("finds the factor of a small matrix, by hand", () => {
    // MᵀM for M = [[1, 0], [2, 3]].
    const matrix = Float64Array.of(5, 6, 6, 9);
    expect(factorize(matrix, 2)).toBe(true);
    expect([matrix[0], matrix[2], matrix[3]]).toEqual([1, 2, 3]);
  });

  it.each([1, 2, 47, 48, 49, 101])("gives back the matrix, %i rows", (size) => {
    const matrix = positiveDefinite(size, 1);
    const factor = matrix.slice();
    expect(factorize(factor, size)).toBe(true);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j <= i; j++) {
        let sum = 0;
        for (let k = i; k < size; k++) sum += factor[k * size + i] * factor[k * size + j];
        expect(sum).toBeCloseTo(matrix[i * size + j], 9);
      }
    }
  });

  it.each([
    ["indefinite", [1, 2, 2, 1]],
    ["zero", [0, 0, 0, 0]],
    ["not finite", [Number.NaN, 0, 0, 1]],
    ["infinite", [Number.POSITIVE_INFINITY, 0, 0, 1]],
  ])("says that a matrix is not positive definite: %s", (_about, values) => {
    expect(factorize(Float64Array.from(values), 2)).toBe(false);
  });
});

describe("solveFactored", () => {
  it("solves the equations for every row", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 110 }), fc.integer({ min: 1, max: 9 }), (size, rowCount) => {
        const matrix = positiveDefinite(size, size);
        const random = createRandom(7);
        const wanted = Float64Array.from({ length: rowCount * size }, () => random.next() / 2 ** 32 - 0.5);
        const rows = new Float64Array(rowCount * size);
        for (let row = 0; row < rowCount; row++) {
          for (let i = 0; i < size; i++) {
            for (let j = 0; j < size; j++) rows[row * size + i] += matrix[i * size + j] * wanted[row * size + j];
          }
        }
        expect(factorize(matrix, size)).toBe(true);
        solveFactored(matrix, size, rows, rowCount);
        rows.forEach((value, i) => {
          expect(value).toBeCloseTo(wanted[i], 7);
        });
      }),
      { seed: 1, numRuns: 30 },
    );
  });
});

function positiveDefinite(size: number, seed: number): Float64Array {
  const random = createRandom(seed);
  const values = Float64Array.from({ length: size * size }, () => random.next() / 2 ** 32 - 0.5);
  const matrix = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      for (let k = 0; k < size; k++) matrix[i * size + j] += values[k * size + i] * values[k * size + j];
    }
    matrix[i * size + i] += 1;
  }
  return matrix;
}
