import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { symmetricEigen } from "./eigen.js";

const matrices = fc.integer({ min: 1, max: 9 }).chain((size) =>
  fc
    .array(fc.double({ min: -10, max: 10, noNaN: true }), { minLength: size * size, maxLength: size * size })
    .map((values) => {
      const at = (row: number, column: number) => values[Math.min(row, column) * size + Math.max(row, column)];
      return { size, matrix: Float64Array.from(values, (_, i) => at(Math.floor(i / size), i % size)) };
    }),
);

describe("symmetricEigen", () => {
  it("finds what can be seen by eye", () => {
    const { values, vectors } = symmetricEigen(Float64Array.of(2, 1, 1, 2), 2);
    expect(values[0]).toBeCloseTo(3, 14);
    expect(values[1]).toBeCloseTo(1, 14);
    expect(vectors[0]).toBeCloseTo(vectors[2], 14);
    expect(vectors[1]).toBeCloseTo(-vectors[3], 14);
  });

  it("leaves a diagonal, sorted", () => {
    const { values, vectors } = symmetricEigen(Float64Array.of(1, 0, 0, 0, -2, 0, 0, 0, 5), 3);
    expect([...values]).toEqual([5, 1, -2]);
    expect([...vectors]).toEqual([0, 1, 0, 0, 0, 1, 1, 0, 0]);
  });

  it("puts any symmetric matrix together again, from directions of length 1 at right angles", () => {
    fc.assert(
      fc.property(matrices, ({ size, matrix }) => {
        const { values, vectors } = symmetricEigen(matrix, size);
        for (let i = 0; i < size; i++) {
          if (i > 0) expect(values[i]).toBeLessThanOrEqual(values[i - 1]);
          for (let j = 0; j < size; j++) {
            let [rebuilt, product] = [0, 0];
            for (let k = 0; k < size; k++) {
              rebuilt += vectors[i * size + k] * values[k] * vectors[j * size + k];
              product += vectors[k * size + i] * vectors[k * size + j];
            }
            expect(Math.abs(rebuilt - matrix[i * size + j])).toBeLessThan(1e-11);
            expect(Math.abs(product - (i === j ? 1 : 0))).toBeLessThan(1e-12);
          }
        }
      }),
    );
  });
});
