import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  flat,
  type Matrix,
  outputErrorsOf,
  type PlainGrid,
  productsOf,
  ridge,
  roundSlowly,
  rowsOf,
  someInputs,
  someMatrix,
} from "../../test/slow-rounding.js";
import type { Bits, Granularity, WeightFormat } from "./format.js";
import {
  type FactoredGram,
  factorGram,
  type GptqOptions,
  type Gridding,
  moveRows,
  outputErrors,
  type RoundedRows,
  roundAgainstGram,
} from "./gptq.js";
import { dequantizeRows, nearestCodes } from "./weight.js";
import { chooseWeightGrid, chooseWeightGrids, codeLimits, type WeightGrids } from "./weight-grid.js";

const natural: GptqOptions = { order: "natural", damping: 0.01 };
const orders = ["activation", "natural"] as const;

function format(bits: Bits, granularity: Granularity = { kind: "per-channel" }, symmetric = false): WeightFormat {
  return { bits, granularity, symmetric };
}

function factor(inputs: Matrix, options: GptqOptions = natural): FactoredGram {
  return factorGram(flat(productsOf(inputs, inputs)), inputs[0].length, options);
}

function float32(rows: Matrix): Float32Array {
  return Float32Array.from(rows.flat());
}

/** Weights as a layer has them: float32, a few of them large. */
function someWeights(rowCount: number, size: number, seed: number): number[][] {
  const rows = someMatrix(rowCount, size, seed).map((row) => row.map((value) => Math.fround(value ** 3)));
  return rows.map((row) => [...row]);
}

/** What the codes of some rows stand for; with dynamic groups the grids go by the order of rounding. */
function valuesOf({ codes, grids }: RoundedRows, rowCount: number, order?: Int32Array): number[][] {
  const size = codes.length / rowCount;
  const perRow = grids.scales.length / rowCount;
  const places = Array.from({ length: size }, (_, column) => order?.indexOf(column) ?? column);
  return rowsOf(codes, rowCount).map((row, r) =>
    row.map((code, column) => {
      const grid = grids.scales.length === 1 ? 0 : r * perRow + Math.floor(places[column] / grids.groupSize);
      return (code - grids.zeroPoints[grid]) * grids.scales[grid];
    }),
  );
}

function expectClose(actual: Iterable<number>, expected: readonly number[], tolerance: number): void {
  const found = [...actual];
  expect(found).toHaveLength(expected.length);
  for (const [i, value] of found.entries()) expect(Math.abs(value - expected[i])).toBeLessThanOrEqual(tolerance);
}

describe("roundAgainstGram by hand", () => {
  const unit: WeightGrids = { scales: Float32Array.of(1), zeroPoints: Int8Array.of(0), groupSize: 2 };
  const limits = { low: -2, high: 1 };
  const round = (gram: readonly number[], row: readonly number[], order: GptqOptions["order"]) => {
    const factored = factorGram(Float64Array.from(gram), 2, { order, damping: 0 });
    return roundAgainstGram(factored, Float32Array.from(row), 1, { kind: "static", grids: unit }, limits);
  };

  it("lets the second column make up for the first one", () => {
    // 0.5 becomes 0; with half of its error the second one is 0.25 + 0.5 · 0.5 = 0.5, a tie; a little more is 1.
    const { codes, errors } = round([1, 0.5, 0.5, 1], [0.5, 0.375], "natural");
    expect([...codes]).toEqual([0, 1]);
    // d = (0.5, -0.625): 0.25 + 0.390625 - 2 · 0.5 · 0.3125; to nearest, d = (0.5, 0.375), it were 0.578125.
    expect(errors[0]).toBeCloseTo(0.328125, 12);
  });

  it("takes the column with the largest input first", () => {
    // In the natural order: 0.375 to 0, then 0.4375 + 0.25 · 0.375 = 0.53125 to 1.
    expect([...round([1, 1, 1, 4], [0.375, 0.4375], "natural").codes]).toEqual([0, 1]);
    // The other way round: 0.4375 to 0, then 0.375 + 0.4375 = 0.8125 to 1.
    expect([...round([1, 1, 1, 4], [0.375, 0.4375], "activation").codes]).toEqual([1, 0]);
  });

  it("keeps to the limits, and later columns make up for that too", () => {
    // 3 is cut off at 1, which leaves 2 for the second column: 0.25 + 0.5 · 2 = 1.25.
    expect([...round([1, 0.5, 0.5, 1], [3, 0.25], "natural").codes]).toEqual([1, 1]);
    expect([...round([1, 0.5, 0.5, 1], [-9, 0.25], "natural").codes]).toEqual([-2, -2]);
  });

  it("leaves a column without input at its nearest code", () => {
    const { codes, errors } = round([1, 0, 0, 0], [0.375, 0.625], "natural");
    expect([...codes]).toEqual([0, 1]);
    expect(errors[0]).toBeCloseTo(0.375 ** 2, 12);
  });
});

describe.each([1, 2, 63, 64, 65, 130])("roundAgainstGram, %i columns", (size) => {
  const inputs = someInputs(size + 20, size, size);
  const rows = someWeights(3, size, 7);
  const granularities: readonly Granularity[] = [
    { kind: "per-tensor" },
    { kind: "per-channel" },
    { kind: "per-group", groupSize: 5 },
    { kind: "per-group", groupSize: 64 },
  ];

  describe.each(orders)("in the order %s", (order) => {
    const factored = factor(inputs, { order, damping: 0.01 });

    it.each(granularities)("gives what updating all later columns after each one gives: %o", (granularity) => {
      const given = format(3, granularity);
      const grids = chooseWeightGrids(float32(rows), 3, given);
      const rounded = roundAgainstGram(factored, float32(rows), 3, { kind: "static", grids }, codeLimits(given));
      const perRow = grids.scales.length / 3;
      const gridOf = (row: number, column: number): PlainGrid => {
        const grid = granularity.kind === "per-tensor" ? 0 : row * perRow + Math.floor(column / grids.groupSize);
        return { scale: grids.scales[grid], zeroPoint: grids.zeroPoints[grid] };
      };
      const expected = roundSlowly(inputs, rows, { order, damping: 0.01, ...codeLimits(given), gridOf });
      expect(rowsOf(rounded.codes, 3)).toEqual(expected.codes);
      expect(rounded.grids).toBe(grids);
      const signal = Math.max(
        ...outputErrorsOf(
          inputs,
          rows,
          rows.map((row) => row.map(() => 0)),
        ),
      );
      expectClose(rounded.errors, outputErrorsOf(inputs, rows, expected.values), 1e-9 * signal);
    });

    it.each([1, 5, 64, 200])("chooses the grids of groups of %i when their turn comes", (groupSize) => {
      const given = format(3);
      const gridding: Gridding = {
        kind: "dynamic",
        groupSize,
        choose: (_row, values) => chooseWeightGrid(values, 0, values.length, given),
      };
      const rounded = roundAgainstGram(factored, float32(rows), 3, gridding, codeLimits(given));
      const choose = (values: readonly number[]) =>
        chooseWeightGrid(Float32Array.from(values), 0, values.length, given);
      const expected = roundSlowly(inputs, rows, {
        order,
        damping: 0.01,
        ...codeLimits(given),
        gridOf: () => ({ scale: 1, zeroPoint: 0 }),
        dynamic: { groupSize, choose },
      });
      expect(rowsOf(rounded.codes, 3)).toEqual(expected.codes);
      const grids = expected.grids.flat();
      expect([...rounded.grids.zeroPoints]).toEqual(grids.map(({ zeroPoint }) => zeroPoint));
      expectClose(
        rounded.grids.scales,
        grids.map(({ scale }) => scale),
        1e-6,
      );
      const values = valuesOf(rounded, 3, factored.order);
      const signal = Math.max(
        ...outputErrorsOf(
          inputs,
          rows,
          rows.map((row) => row.map(() => 0)),
        ),
      );
      expectClose(rounded.errors, outputErrorsOf(inputs, rows, values), 1e-9 * signal);
    });
  });

  it("has output errors that are those of the outputs themselves", () => {
    const others = someWeights(3, size, 8);
    const expected = outputErrorsOf(inputs, rows, others);
    for (const order of orders) {
      const found = outputErrors(factor(inputs, { order, damping: 0.01 }), float32(rows), float32(others), 3);
      // Differences of float32 weights are float32 again.
      expectClose(found, expected, 1e-6 * Math.max(...expected));
    }
  });

  it("moves rows by the solution of a ridge regression", () => {
    const wanted = someMatrix(size + 20, 3, 9);
    const cross = productsOf(wanted, inputs);
    const expected = ridge(inputs, cross, 0.01).map((row, r) => row.map((change, k) => rows[r][k] + change));
    for (const order of orders) {
      const given = float32(rows);
      const moved = moveRows(factor(inputs, { order, damping: 0.01 }), given, 3, flat(cross));
      expectClose(moved, expected.flat(), 1e-5);
      expect(given).toEqual(float32(rows));
    }
  });
});

describe("roundAgainstGram", () => {
  const shapes = fc.record({
    rowCount: fc.integer({ min: 1, max: 4 }),
    size: fc.integer({ min: 1, max: 20 }),
    samples: fc.integer({ min: 1, max: 30 }),
    seed: fc.integer({ min: 1, max: 1000 }),
    bits: fc.constantFrom<Bits>(2, 3, 4, 8),
    symmetric: fc.boolean(),
    order: fc.constantFrom(...orders),
  });

  it("rounds to nearest where columns have nothing to do with each other", () => {
    fc.assert(
      fc.property(shapes, ({ rowCount, size, seed, bits, symmetric, order }) => {
        const given = format(bits, { kind: "per-channel" }, symmetric);
        const rows = float32(someWeights(rowCount, size, seed));
        const grids = chooseWeightGrids(rows, rowCount, given);
        const inputs = Array.from({ length: size }, (_, i) =>
          Array.from({ length: size }, (__, j) => +(i === j) * (i + 1)),
        );
        const factored = factor(inputs, { order, damping: 0.01 });
        const { codes } = roundAgainstGram(factored, rows, rowCount, { kind: "static", grids }, codeLimits(given));
        expect(codes).toEqual(nearestCodes(rows, rowCount, grids, given));
      }),
      { seed: 1, numRuns: 50 },
    );
  });

  it("moves no weight of a row without negative weights by more than half a step of a symmetric grid", () => {
    // The reference takes the range of such a row from zero up, and leaves the zero point in the middle.
    fc.assert(
      fc.property(shapes, ({ rowCount, size, seed, bits }) => {
        const given = format(bits, { kind: "per-channel" }, true);
        const rows = float32(someWeights(rowCount, size, seed)).map(Math.abs);
        const grids = chooseWeightGrids(rows, rowCount, given);
        const inputs = Array.from({ length: size }, (_, i) => Array.from({ length: size }, (__, j) => +(i === j)));
        const rounded = roundAgainstGram(factor(inputs), rows, rowCount, { kind: "static", grids }, codeLimits(given));
        for (const [row, values] of valuesOf(rounded, rowCount).entries()) {
          for (const [i, value] of values.entries()) {
            expect(Math.abs(rows[row * size + i] - value)).toBeLessThanOrEqual(0.50001 * grids.scales[row]);
          }
        }
      }),
      { seed: 1, numRuns: 50 },
    );
  });

  it("goes past columns whose input is always zero as if they were not there", () => {
    fc.assert(
      fc.property(shapes, fc.nat(99), ({ rowCount, size, samples, seed, bits, order }, dead) => {
        const isDead = (column: number) => (column * 7 + dead) % 3 === 0;
        const inputs = someInputs(samples, size, seed).map((row) => row.map((v, i) => (isDead(i) ? 0 : v)));
        const live = Array.from({ length: size }, (_, i) => i).filter((i) => !isDead(i));
        const rows = someWeights(rowCount, size, seed + 1);
        const given = format(bits);
        const grids = chooseWeightGrids(float32(rows), rowCount, given);
        const gridding: Gridding = { kind: "static", grids };
        const options = { order, damping: 0.01 };
        const rounded = roundAgainstGram(factor(inputs, options), float32(rows), rowCount, gridding, codeLimits(given));
        const nearest = rowsOf(nearestCodes(float32(rows), rowCount, grids, given), rowCount);
        rowsOf(rounded.codes, rowCount).forEach((codes, row) => {
          for (const i of codes.keys()) if (isDead(i)) expect(codes[i]).toBe(nearest[row][i]);
        });
        if (live.length === 0) return;
        const only = (matrix: Matrix) => matrix.map((row) => live.map((i) => row[i]));
        const alone = roundAgainstGram(
          factor(only(inputs), options),
          float32(only(rows)),
          rowCount,
          { kind: "static", grids: { ...grids, groupSize: live.length } },
          codeLimits(given),
        );
        expect(only(rowsOf(rounded.codes, rowCount))).toEqual(rowsOf(alone.codes, rowCount));
        expectClose(rounded.errors, [...alone.errors], 1e-9);
      }),
      { seed: 1, numRuns: 60 },
    );
  });

  it("does not mind in which units the input is", () => {
    const rows = float32(someWeights(4, 40, 3));
    const given = format(3);
    const grids = chooseWeightGrids(rows, 4, given);
    const inputs = someInputs(90, 40, 5);
    const codesIn = (unit: number) =>
      roundAgainstGram(
        factor(inputs.map((row) => row.map((value) => value * unit))),
        rows,
        4,
        { kind: "static", grids },
        codeLimits(given),
      ).codes;
    const expected = codesIn(1);
    for (const unit of [2 ** -70, 2 ** -30, 2 ** 30, 2 ** 70]) expect(codesIn(unit)).toEqual(expected);
  });

  it("does not mind in which units the weights are", () => {
    const rows = float32(someWeights(4, 40, 3));
    const given = format(3);
    const factored = factor(someInputs(90, 40, 5));
    const codesIn = (unit: number) => {
      const scaled = rows.map((value) => value * unit);
      const grids = chooseWeightGrids(scaled, 4, given);
      return roundAgainstGram(factored, scaled, 4, { kind: "static", grids }, codeLimits(given)).codes;
    };
    const expected = codesIn(1);
    for (const unit of [2 ** -66, 2 ** 66]) expect(codesIn(unit)).toEqual(expected);
  });
});

describe("factorGram", () => {
  const size = 24;
  const degenerate: readonly (readonly [about: string, inputs: Matrix])[] = [
    ["fewer rows than columns", someInputs(3, size, 1)],
    ["one row", someInputs(1, size, 2)],
    ["columns that are there twice", someInputs(50, size / 2, 3).map((row) => [...row, ...row])],
    ["one column again and again", someInputs(50, 1, 4).map(([value]) => new Array<number>(size).fill(value))],
    ["nothing but zeros", [new Array<number>(size).fill(0)]],
    ["ones", [new Array<number>(size).fill(1)]],
    ["columns of very different sizes", someInputs(50, size, 5).map((row) => row.map((v, i) => v * 10 ** (i - 12)))],
  ];

  describe.each(degenerate)("of %s", (_about, inputs) => {
    const cases = orders.flatMap((order) =>
      [0, 1e-12, 0.01].flatMap((damping) => [1e-20, 1, 1e20].map((unit) => [order, damping, unit] as const)),
    );
    it.each(cases)("comes to an end, in the order %s, damping %d, unit %d", (order, damping, unit) => {
      const scaled = inputs.map((row) => row.map((value) => value * unit));
      const factored = factor(scaled, { order, damping });
      expect([...factored.order].sort((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i));
      const lower = rowsOf(factored.factor, size).flatMap((row, i) => row.slice(0, i + 1));
      expect(lower.every(Number.isFinite)).toBe(true);
      expect(factored.added.every((value) => value >= 0 && Number.isFinite(value))).toBe(true);
      const rows = someWeights(2, size, 6);
      const given = format(4);
      const grids = chooseWeightGrids(float32(rows), 2, given);
      const rounded = roundAgainstGram(factored, float32(rows), 2, { kind: "static", grids }, codeLimits(given));
      const { low, high } = codeLimits(given);
      expect(rounded.codes.every((code) => code >= low && code <= high)).toBe(true);
      // What was added to the diagonal is taken off again: that leaves rounding errors of its size.
      const added = factored.added.reduce((sum, value) => sum + value, 0);
      const values = rowsOf(dequantizeRows({ ...grids, codes: rounded.codes }, 2), 2);
      const signal = Math.max(
        ...outputErrorsOf(
          scaled,
          rows,
          rows.map((row) => row.map(() => 0)),
        ),
      );
      expectClose(rounded.errors, outputErrorsOf(scaled, rows, values), 1e-6 * signal + 1e-9 * added);
    });
  });

  it("leaves the matrix unchanged", () => {
    const gram = flat(productsOf(someInputs(9, 5, 1), someInputs(9, 5, 1)));
    const before = gram.slice();
    factorGram(gram, 5, { order: "activation", damping: 0.01 });
    expect(gram).toEqual(before);
  });

  it("adds a share of the mean of what is not zero, and all of it where there is nothing", () => {
    const gram = Float64Array.of(4, 0, 0, 0, 0, 0, 0, 0, 2);
    expect([...factorGram(gram, 3, { order: "natural", damping: 0.5 }).added]).toEqual([1.5, 4.5, 1.5]);
    expect([...factorGram(gram, 3, { order: "activation", damping: 0 }).added]).toEqual([0, 0, 3]);
  });

  it("takes columns of the same size from the first on", () => {
    const gram = Float64Array.of(2, 0, 0, 0, 3, 0, 0, 0, 2);
    expect([...factorGram(gram, 3, { order: "activation", damping: 0.01 }).order]).toEqual([1, 0, 2]);
    expect([...factorGram(gram, 3, natural).order]).toEqual([0, 1, 2]);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])("does not go on for ever with %d", (bad) => {
    expect(() => factorGram(Float64Array.of(1, bad, bad, 1), 2, natural)).toThrow("not finite");
  });
});
