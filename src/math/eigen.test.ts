import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { leadingDirections, symmetricEigen } from "./eigen.js";

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

/** Matrices of few ranks, with the same eigenvalue many times, and with parts that have nothing to do with each other. */
const special = fc.integer({ min: 2, max: 12 }).chain((size) =>
  fc
    .record({
      diagonal: fc.array(fc.constantFrom(0, 1, 1, 3), { minLength: size, maxLength: size }),
      column: fc.array(fc.constantFrom(0, 0, 1, -2), { minLength: size, maxLength: size }),
    })
    .map(({ diagonal, column }) => ({
      size,
      matrix: Float64Array.from({ length: size * size }, (_, at) => {
        const [i, j] = [Math.floor(at / size), at % size];
        return column[i] * column[j] + (i === j ? diagonal[i] : 0);
      }),
    })),
);

/** 1 six times over, in parts that rounding joins again: exactly at it the vectors of one part drown the others. */
const equalEigenvalues = (() => {
  const [diagonal, column] = [
    [1, 0, 1, 1, 0, 0, 1, 3, 1, 1, 1],
    [1, 0, -2, 0, 0, 0, 0, 0, -2, 1, -2],
  ];
  const matrix = Float64Array.from({ length: 121 }, (_, at) => {
    const [i, j] = [Math.floor(at / 11), at % 11];
    return column[i] * column[j] + (i === j ? diagonal[i] : 0);
  });
  return { size: 11, matrix };
})();

describe("leadingDirections", () => {
  it("finds what can be seen by eye", () => {
    const [along, across] = leadingDirections(Float64Array.of(2, 1, 1, 2), 2, 1);
    expect(along).toBeCloseTo(across, 14);
    expect(along ** 2).toBeCloseTo(0.5, 14);
    expect([...leadingDirections(Float64Array.of(7), 1, 1)].map(Math.abs)).toEqual([1]);
    expect([...leadingDirections(Float64Array.of(7), 1, 0)]).toEqual([]);
  });

  it("finds directions of length 1 at right angles that the matrix stretches by its largest eigenvalues", () => {
    fc.assert(
      fc.property(fc.oneof(matrices, special), fc.nat(), ({ size, matrix }, chosen) => {
        const count = 1 + (chosen % size);
        const { values } = symmetricEigen(matrix, size);
        const directions = leadingDirections(matrix, size, count);
        for (let i = 0; i < count; i++) {
          const own = directions.subarray(i * size, (i + 1) * size);
          for (let j = 0; j <= i; j++) {
            let product = 0;
            for (let k = 0; k < size; k++) product += own[k] * directions[j * size + k];
            expect(Math.abs(product - (i === j ? 1 : 0))).toBeLessThan(1e-12);
          }
          for (let row = 0; row < size; row++) {
            let image = 0;
            for (let k = 0; k < size; k++) image += matrix[row * size + k] * own[k];
            expect(Math.abs(image - values[i] * own[row])).toBeLessThan(1e-11);
          }
        }
      }),
      { numRuns: 300, examples: [[equalEigenvalues, 5]] },
    );
  });

  it.each([96, 160, 224])("settles for a matrix of few ranks and very different sizes, %i rows", (size) => {
    for (const rank of [1, 5, 12]) {
      const factor = Float64Array.from({ length: size * rank }, (_, i) => Math.sin(i * i + 1) * 10 ** -((i * 7) % 12));
      const matrix = new Float64Array(size * size);
      for (let at = 0; at < size * size; at++) {
        const [row, column] = [Math.floor(at / size), at % size];
        for (let k = 0; k < rank; k++) matrix[at] += factor[row * rank + k] * factor[column * rank + k];
      }
      const directions = leadingDirections(matrix, size, 20);
      expect(directions.every(Number.isFinite)).toBe(true);
      const { values } = symmetricEigen(matrix, size);
      let stretched = 0;
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < size; j++) stretched += directions[i] * matrix[i * size + j] * directions[j];
      }
      expect(stretched / values[0]).toBeCloseTo(1, 10);
    }
  });
});
