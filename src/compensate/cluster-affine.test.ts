import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRandom, drawWithoutRepetition } from "../math/random.js";
import { applyLines, clustersByScores, fitLines, noComponents, type OutputRows, scoresOf } from "./cluster-affine.js";

function someRows(count: number, columns: number, seed: number): OutputRows {
  const random = createRandom(seed);
  const current = Float64Array.from({ length: count * columns }, () => (random.next() / 2 ** 32 - 0.5) * 8);
  return { columns, current, float: current.map((value) => 1.2 * value + 0.3 + random.next() / 2 ** 32) };
}

const oneCluster = (rows: number) => ({ assignment: new Int32Array(rows), count: 1 });

/** Rows of 3 columns in 3 clusters, of which one may be empty. */
const problems = fc
  .tuple(fc.integer({ min: 2, max: 30 }), fc.nat(), fc.constantFrom("bias" as const, "affine" as const))
  .map(([count, seed, form]) => ({
    rows: someRows(count, 3, seed),
    clusters: { assignment: Int32Array.from({ length: count }, (_, row) => (row * (seed % 7)) % 3), count: 3 },
    form,
  }));

function expectClose(actual: Float64Array | undefined, expected: Float64Array | undefined, most = 1e-9): void {
  expect(actual?.length).toBe(expected?.length);
  for (const [i, value] of (expected ?? []).entries()) {
    expect(Math.abs((actual as Float64Array)[i] - value)).toBeLessThan(most * (1 + Math.abs(value)));
  }
}

describe("fitLines", () => {
  // One class: 0, 2 should be 1, 5; 10, 10 should be 9, 9.
  const rows = { columns: 1, current: Float64Array.of(0, 2, 10, 10), float: Float64Array.of(1, 5, 9, 9) };
  const clusters = { assignment: Int32Array.of(0, 0, 1, 1), count: 3 };

  it("fits a line to each cluster", () => {
    // The second does not vary; the third is empty.
    expect(fitLines(rows, clusters, "affine", 0)).toEqual({
      slopes: Float64Array.of(2, 1, 1),
      offsets: Float64Array.of(1, -1, 0),
    });
  });

  it("fits a constant to each cluster, drawn towards that of all", () => {
    // Mean errors: 2, -1 and 0.5 over all; each counts twice, the common one twice too.
    const { slopes, offsets } = fitLines(rows, clusters, "bias", 2);
    expect(slopes).toBeUndefined();
    expect([...offsets]).toEqual([1.25, -0.25, 0.5]);
  });

  it("ends at the line of all rows where that counts for everything", () => {
    fc.assert(
      fc.property(problems, ({ rows: given, clusters: groups, form }) => {
        const all = fitLines(given, oneCluster(groups.assignment.length), form, 0);
        const { slopes, offsets } = fitLines(given, groups, form, 1e12);
        const repeated = (values: Float64Array) => Float64Array.from({ length: 9 }, (_, i) => values[i % 3]);
        expectClose(slopes, all.slopes && repeated(all.slopes), 1e-8);
        expectClose(offsets, repeated(all.offsets), 1e-8);
      }),
    );
  });

  it("scales with the outputs", () => {
    fc.assert(
      fc.property(
        problems,
        fc.double({ min: 0.1, max: 50, noNaN: true }),
        ({ rows: given, clusters: groups, form }, c) => {
          const scale = (values: Float64Array) => values.map((value) => value * c);
          const scaled = { columns: 3, float: scale(given.float), current: scale(given.current) };
          const plain = fitLines(given, groups, form, 30);
          const { slopes, offsets } = fitLines(scaled, groups, form, 30);
          expectClose(slopes, plain.slopes);
          expectClose(offsets, scale(plain.offsets));
        },
      ),
    );
  });

  it("does not depend on the order of the rows", () => {
    fc.assert(
      fc.property(problems, fc.nat(), ({ rows: given, clusters: groups, form }, seed) => {
        const count = groups.assignment.length;
        const order = drawWithoutRepetition(count, count, createRandom(seed));
        const mix = (values: Float64Array) =>
          Float64Array.from(order.flatMap((row) => [...values.subarray(3 * row, 3 * row + 3)]));
        const mixed = { columns: 3, float: mix(given.float), current: mix(given.current) };
        const assignment = Int32Array.from(order, (row) => groups.assignment[row]);
        const [plain, other] = [
          fitLines(given, groups, form, 30),
          fitLines(mixed, { ...groups, assignment }, form, 30),
        ];
        expectClose(other.slopes, plain.slopes);
        expectClose(other.offsets, plain.offsets);
      }),
    );
  });

  it("leaves no larger squared error than there was, however much the line of all rows counts for", () => {
    fc.assert(
      fc.property(
        problems,
        fc.constantFrom(0, 1, 30, 1e6),
        ({ rows: { float, current }, clusters: groups, form }, tau) => {
          const corrected = applyLines(
            current,
            groups.assignment,
            fitLines({ columns: 3, float, current }, groups, form, tau),
          );
          const errorOf = (values: Float64Array) => values.reduce((sum, value, i) => sum + (value - float[i]) ** 2, 0);
          expect(errorOf(corrected)).toBeLessThanOrEqual(errorOf(current) * (1 + 1e-9));
        },
      ),
    );
  });
});

describe("clustersByScores", () => {
  it("takes the nearest centre, the first of several that are equally near", () => {
    const scores = scoresOf(noComponents(2), Float64Array.of(0, 0, 4, 0, 0, 4));
    expect([...clustersByScores(Float64Array.of(1, 1, 3, 0, 1, 3.5, 2, 0), 2, scores)]).toEqual([0, 1, 2, 0]);
  });
});
