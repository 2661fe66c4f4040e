import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { symmetricEigen } from "./eigen.js";
import { principalComponents, projectOnto } from "./principal-components.js";
import { createRandom } from "./random.js";

/** Points of which every column has another spread. */
function somePoints(rows: number, columns: number, seed: number): Float64Array {
  const random = createRandom(seed);
  return Float64Array.from(
    { length: rows * columns },
    (_, i) => (random.next() / 2 ** 32 - 0.3) * (1 + ((7 * (i % columns)) % columns)),
  );
}

/** The covariance written down, divided by the number of points. */
function covarianceOf(points: Float64Array, columns: number): Float64Array {
  const rows = points.length / columns;
  const at = (row: number, column: number) => points[row * columns + column];
  const all = Array.from({ length: rows }, (_, row) => row);
  const mean = (column: number) => all.reduce((sum, row) => sum + at(row, column), 0) / rows;
  return Float64Array.from({ length: columns * columns }, (_, i) => {
    const [a, b] = [Math.floor(i / columns), i % columns];
    return all.reduce((sum, row) => sum + (at(row, a) - mean(a)) * (at(row, b) - mean(b)), 0) / rows;
  });
}

describe("principalComponents", () => {
  it("finds the line that points lie on", () => {
    const { mean, count, directions, variances } = principalComponents(Float64Array.of(1, 1, 2, 3, 3, 5), 2, 2);
    expect([...mean]).toEqual([2, 3]);
    // They lie along (1, 2): no second direction.
    expect(count).toBe(1);
    expect(directions[0]).toBeCloseTo(1 / Math.sqrt(5), 12);
    expect(directions[1]).toBeCloseTo(2 / Math.sqrt(5), 12);
    expect(variances[0]).toBeCloseTo(10 / 3, 12);
  });

  it("finds none in points that are all the same", () => {
    const found = principalComponents(Float64Array.of(1, 2, 1, 2, 1, 2), 2, 2);
    expect(found).toMatchObject({ count: 0, mean: Float64Array.of(1, 2) });
    expect(projectOnto(Float64Array.of(5, 6), found)).toHaveLength(0);
  });

  it("agrees with the eigenvectors of the covariance, with more rows and with fewer than columns", () => {
    const sizes = fc.tuple(fc.integer({ min: 2, max: 40 }), fc.integer({ min: 1, max: 12 }), fc.nat());
    fc.assert(
      fc.property(sizes, ([rows, columns, seed]) => {
        const points = somePoints(rows, columns, seed);
        const found = principalComponents(points, columns, 3);
        const slow = symmetricEigen(covarianceOf(points, columns), columns);
        expect(found.count).toBe(Math.min(3, rows - 1, columns));
        for (let c = 0; c < found.count; c++) {
          expect(Math.abs(found.variances[c] / slow.values[c] - 1)).toBeLessThan(1e-6);
          // Directions of nearly the same variance may be any in their plane.
          const gap = Math.min(slow.values[c - 1] ?? Infinity, Infinity) - slow.values[c];
          const next = slow.values[c] - (slow.values[c + 1] ?? 0);
          if (Math.min(gap, next) < 0.02 * slow.values[0]) continue;
          let cosine = 0;
          for (let i = 0; i < columns; i++) {
            cosine += found.directions[i * found.count + c] * slow.vectors[i * columns + c];
          }
          expect(Math.abs(cosine)).toBeGreaterThan(1 - 1e-6);
        }
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  it("gives positions whose variances it tells", () => {
    const points = somePoints(30, 50, 3);
    const found = principalComponents(points, 50, 4);
    const positions = projectOnto(points, found);
    const covariance = covarianceOf(positions, 4);
    for (let i = 0; i < 16; i++) {
      const expected = i % 5 === 0 ? found.variances[i / 5] : 0;
      expect(Math.abs(covariance[i] - expected)).toBeLessThan(1e-5 * found.variances[0]);
    }
  });
});
