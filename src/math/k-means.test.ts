import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { assignPoints, type Clustering, kMeans, mergeSmallClusters, sizesOf } from "./k-means.js";
import { createRandom, drawWithoutRepetition } from "./random.js";

const rowsOf = (values: ArrayLike<number>, dimensions: number) =>
  Array.from({ length: values.length / dimensions }, (_, row) =>
    Array.from({ length: dimensions }, (_, i) => values[row * dimensions + i]),
  );
const sortedRows = (values: ArrayLike<number>, dimensions: number) =>
  rowsOf(values, dimensions).sort((a, b) => a[0] - b[0] || a[1] - b[1]);

const plane = fc
  .array(fc.tuple(fc.integer({ min: -50, max: 50 }), fc.integer({ min: -50, max: 50 })), {
    minLength: 1,
    maxLength: 40,
  })
  .map((points) => Float64Array.from(points.flat()));

/** The smallest inertia of all ways to divide points on a line into runs of neighbours: the best is one of them. */
function bestInertia(points: readonly number[], clusters: number): number {
  const sorted = [...points].sort((a, b) => a - b);
  const best = (from: number, left: number): number => {
    if (from === sorted.length) return 0;
    if (left === 0) return Infinity;
    let least = Infinity;
    for (let end = from + 1; end <= sorted.length; end++) {
      const run = sorted.slice(from, end);
      const mean = run.reduce((sum, value) => sum + value, 0) / run.length;
      least = Math.min(least, run.reduce((sum, value) => sum + (value - mean) ** 2, 0) + best(end, left - 1));
    }
    return least;
  };
  return best(0, clusters);
}

describe("kMeans", () => {
  it("finds two groups on a line", () => {
    const { centers, assignment, inertia } = kMeans(Float64Array.of(9, 0, 1, 10, 2), 1, { clusters: 2, seed: 0 });
    expect([...centers].sort((a, b) => a - b)).toEqual([1, 9.5]);
    expect(inertia).toBe(2.5);
    expect([...assignment].map((cluster) => centers[cluster])).toEqual([9.5, 1, 1, 9.5, 1]);
  });

  it("is nearly always the best there is on a line", () => {
    const line = fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(line, fc.integer({ min: 1, max: 3 }), (points, clusters) => {
        const { inertia } = kMeans(Float64Array.from(points), 1, { clusters, seed: 1, restarts: 30 });
        expect(inertia).toBeCloseTo(bestInertia(points, clusters), 8);
      }),
      { numRuns: 60, seed: 2 },
    );
  });

  it("does not depend on the order of the points", () => {
    fc.assert(
      fc.property(plane, fc.integer({ min: 1, max: 5 }), fc.nat(), (points, clusters, seed) => {
        const rows = rowsOf(points, 2);
        const order = drawWithoutRepetition(rows.length, rows.length, createRandom(seed));
        const mixed = Float64Array.from(order.flatMap((row) => rows[row]));
        const [plain, other] = [points, mixed].map((given) => kMeans(given, 2, { clusters, seed: 3 }));
        expect(sortedRows(other.centers, 2)).toEqual(sortedRows(plain.centers, 2));
        expect(other.inertia).toBeCloseTo(plain.inertia, 8);
        expect(order.map((row) => plain.assignment[row])).toEqual([...other.assignment]);
      }),
    );
  });

  it("scales with the points", () => {
    fc.assert(
      fc.property(plane, fc.integer({ min: 1, max: 5 }), fc.integer({ min: -8, max: 8 }), (points, clusters, power) => {
        const factor = 2 ** power;
        const plain = kMeans(points, 2, { clusters, seed: 4 });
        const scaled = kMeans(
          points.map((value) => value * factor),
          2,
          { clusters, seed: 4 },
        );
        expect(scaled.centers).toEqual(plain.centers.map((value) => value * factor));
        expect(scaled.assignment).toEqual(plain.assignment);
      }),
    );
  });

  it("leaves no cluster empty and every point with its nearest centre", () => {
    fc.assert(
      fc.property(plane, fc.integer({ min: 1, max: 9 }), fc.nat({ max: 20 }), (points, clusters, seed) => {
        const { centers, count, assignment, inertia } = kMeans(points, 2, { clusters, seed, restarts: 3 });
        const different = new Set(rowsOf(points, 2).map(String)).size;
        expect(count).toBeLessThanOrEqual(Math.min(clusters, different));
        const nearest = assignPoints(points, 2, centers);
        expect(nearest.assignment).toEqual(assignment);
        expect(nearest.inertia).toBeCloseTo(inertia, 8);
        expect(Math.min(...sizesOf(assignment, count))).toBeGreaterThan(0);
      }),
    );
  });

  it("gives the same for the same seed", () => {
    const points = Float64Array.from({ length: 60 }, (_, i) => (i * 37) % 23);
    const options = { clusters: 4, seed: 7 };
    expect(kMeans(points, 2, options)).toEqual(kMeans(points, 2, options));
  });

  it("takes the first of equally near centres", () => {
    expect([...assignPoints(Float64Array.of(1), 1, Float64Array.of(0, 2)).assignment]).toEqual([0]);
  });
});

describe("mergeSmallClusters", () => {
  const points = Float64Array.of(0, 1, 2, 10, 11, 12, 15);
  const given: Clustering = {
    centers: Float64Array.of(1, 11, 15),
    count: 3,
    assignment: Int32Array.of(0, 0, 0, 1, 1, 1, 2),
    inertia: 4,
  };

  it("moves a small cluster into its neighbour", () => {
    const merged = mergeSmallClusters(points, 1, given, 2);
    expect(merged).toMatchObject({ centers: Float64Array.of(1, 12), count: 2 });
    expect([...merged.assignment]).toEqual([0, 0, 0, 1, 1, 1, 1]);
    expect(merged.inertia).toBe(2 + 4 + 1 + 0 + 9);
  });

  it("leaves clusters that are large enough", () => {
    expect(mergeSmallClusters(points, 1, given, 1)).toEqual(given);
  });

  it("ends with one cluster where there are too few points for two", () => {
    const merged = mergeSmallClusters(points, 1, given, 5);
    expect(merged.count).toBe(1);
    expect(merged.centers[0]).toBeCloseTo(51 / 7, 12);
  });
});
