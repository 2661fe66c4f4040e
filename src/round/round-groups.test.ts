import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Half, outputsOf, seenIn } from "../../test/halves.js";
import { type Matrix, outputErrorsOf, rowsOf, someInputs, someMatrix } from "../../test/slow-rounding.js";
import type { Bits, GptqRounding, Granularity, WeightFormat } from "../quantize/format.js";
import { rowsOfWeight, type WeightToRound } from "../quantize/round-weights.js";
import { dequantizeRows, roundToNearest } from "../quantize/weight.js";
import { codeLimits } from "../quantize/weight-grid.js";
import { elementCount } from "../tensor/shape.js";
import { float32Tensor } from "../tensor/tensor.js";
import { rememberFactors } from "./factors.js";
import { roundGroups } from "./round-groups.js";

const natural: GptqRounding = { use: "gptq", target: "same", order: "natural", groups: "static", damping: 0.01 };
const perChannel: Granularity = { kind: "per-channel" };

function weightOf(shape: readonly number[], values: readonly number[], channelAxis: number, format: WeightFormat) {
  const tensor = float32Tensor(shape, values);
  return { weight: "w", tensor, channelAxis, format, storage: "packed", plans: [] } satisfies WeightToRound;
}

function sumOf(values: Iterable<number>): number {
  return [...values].reduce((total, value) => total + value, 0);
}

/** |X(w - q)|² of each row of a weight, whose groups of channels read inputs of their own. */
function errorsOf(inputs: readonly Matrix[], rows: Matrix, others: Matrix): number[] {
  const perGroup = rows.length / inputs.length;
  return inputs.flatMap((own, g) => {
    const [start, end] = [g * perGroup, (g + 1) * perGroup];
    return outputErrorsOf(own, rows.slice(start, end), others.slice(start, end));
  });
}

describe("roundGroups by hand", () => {
  // With the columns going together by a half, the second one makes up for the first.
  const inputs: Matrix = [
    [1, 0.5],
    [0, Math.sqrt(0.75)],
  ];
  const format: WeightFormat = { bits: 2, granularity: perChannel, symmetric: true };
  const { gram } = seenIn([{ inputs: [inputs], errors: [[[0], [0]]] }]);
  const ends = [0.5, 1].map((high) => ({ low: -high, high }));

  it("chooses codes by the error of the output, which it tells as a mean", () => {
    const weight = weightOf([2, 2], [0.5, 0.375, 1, 0], 0, { ...format, ends });
    const { rows, errorBefore, errorAfter } = roundGroups(
      weight,
      { ...natural, damping: 1e-9 },
      gram,
      undefined,
      rememberFactors(),
    );
    // Scales are 0.5 and 1; 0.375 is 0.75 steps, which nothing has to be made up for.
    expect([...rows.scales]).toEqual([0.5, 1]);
    expect([...rows.codes]).toEqual([1, 1, 1, 0]);
    // 0.125² over two rows of input and two outputs.
    expect(errorBefore).toBeCloseTo(0.125 ** 2 / 4, 9);
    expect(errorAfter).toBeCloseTo(0.125 ** 2 / 4, 9);
  });

  it("makes up for columns that the grid does not fit", () => {
    // In steps of 1: 0.4 becomes 0, and 0.45 + 0.5 · 0.4 becomes 1.
    const weight = weightOf([1, 2], [0.4, 0.45], 0, format);
    const bounded = { ...weight, smallestScales: Float64Array.of(1) };
    const { rows, errorBefore, errorAfter } = roundGroups(
      bounded,
      { ...natural, damping: 1e-9 },
      gram,
      undefined,
      rememberFactors(),
    );
    expect([...rows.scales]).toEqual([1]);
    expect([...rows.codes]).toEqual([0, 1]);
    expect(errorBefore).toBeCloseTo((0.4 ** 2 + 0.45 ** 2 + 0.4 * 0.45) / 2, 7);
    expect(errorAfter).toBeCloseTo((0.4 ** 2 + 0.55 ** 2 - 0.4 * 0.55) / 2, 7);
  });
});

describe("a row's grid by hand", () => {
  // Nothing goes together: the error is that of the weight.
  const inputs = [0, 1, 2].map((i) => [0, 1, 2].map((j) => (i === j ? 1 : 0)));
  const { gram } = seenIn([{ inputs: [inputs], errors: [inputs.map(() => [0])] }]);
  const rounded = (format: Partial<WeightFormat>, smallestScales?: Float64Array) => {
    const whole: WeightFormat = { bits: 2, granularity: perChannel, symmetric: true, range: "minmax", ...format };
    const weight = { ...weightOf([1, 3], [1, 0.8, 0.8], 0, whole), smallestScales };
    return roundGroups(weight, { ...natural, damping: 1e-9 }, gram, undefined, rememberFactors());
  };

  it("is made narrower where that lowers the error of the output", () => {
    // With steps of 1, 0.9 and 0.8: 2 · 0.2², 3 · 0.1² and 0.2².
    const { rows, errorBefore, errorAfter } = rounded({});
    expect([...rows.scales]).toEqual([Math.fround(0.9)]);
    expect([...rows.codes]).toEqual([1, 1, 1]);
    expect(3 * errorBefore).toBeCloseTo(0.08, 7);
    expect(3 * errorAfter).toBeCloseTo(0.03, 7);
  });

  it("keeps the scale that a bias needs", () => {
    const { rows, errorAfter } = rounded({}, Float64Array.of(0.95));
    expect([...rows.scales]).toEqual([Math.fround(0.95)]);
    expect(3 * errorAfter).toBeCloseTo(0.05 ** 2 + 2 * 0.15 ** 2, 7);
  });

  it("stays a positive float32 number", () => {
    for (const size of [3e38, 2 ** -126]) {
      const values = [1, 0.8, 0.8].map((value) => value * size);
      const weight = weightOf([1, 3], values, 0, {
        bits: 2,
        granularity: perChannel,
        symmetric: true,
        range: "minmax",
      });
      const { scales } = roundGroups(weight, natural, gram, undefined, rememberFactors()).rows;
      expect(scales[0]).toBeGreaterThanOrEqual(2 ** -126);
      expect(scales[0]).toBeLessThan(Number.POSITIVE_INFINITY);
    }
  });

  it("stays where rows are too few to tell", () => {
    const { gram: poor } = seenIn([{ inputs: [inputs.slice(1)], errors: [[[0], [0]]] }]);
    const weight = weightOf([1, 3], [1, 0.8, 0.8], 0, { bits: 2, granularity: perChannel, symmetric: true });
    expect([...roundGroups(weight, natural, poor, undefined, rememberFactors()).rows.scales]).toEqual([1]);
  });

  it("stays where somebody has set it, where it is the whole weight's, and where there are many levels", () => {
    expect([...rounded({ ends: [{ low: -1, high: 1 }] }).rows.scales]).toEqual([1]);
    expect([...rounded({ granularity: { kind: "per-tensor" } }).rows.scales]).toEqual([1]);
    expect([...rounded({ bits: 4 }).rows.scales]).toEqual([Math.fround(1 / 7)]);
  });
});

describe("roundGroups", () => {
  const cases = fc.record({
    groups: fc.integer({ min: 1, max: 3 }),
    groupRows: fc.integer({ min: 1, max: 3 }),
    columns: fc.integer({ min: 1, max: 12 }),
    samples: fc.integer({ min: 1, max: 30 }),
    seed: fc.integer({ min: 1, max: 1000 }),
    bits: fc.constantFrom<Bits>(2, 3, 4, 8),
    symmetric: fc.boolean(),
    range: fc.constantFrom("minmax", "mse"),
    granularity: fc.oneof(
      fc.constant<Granularity>({ kind: "per-tensor" }),
      fc.constant(perChannel),
      fc.integer({ min: 1, max: 9 }).map((groupSize): Granularity => ({ kind: "per-group", groupSize })),
    ),
    rounding: fc.constantFrom<GptqRounding>(
      natural,
      { ...natural, order: "activation" },
      { ...natural, groups: "dynamic" },
      { ...natural, damping: 1e-6 },
    ),
    isLast: fc.boolean(),
    least: fc.constantFrom(undefined, 0.2),
  });

  it("is never worse than rounding to nearest, row by row, and tells the errors that it leaves", () => {
    fc.assert(
      fc.property(cases, (given) => {
        const { groups, groupRows, columns, samples, seed, bits, symmetric, range, granularity, least } = given;
        const rowCount = groups * groupRows;
        const format: WeightFormat = { bits, symmetric, range, granularity };
        // Channels may lie along the last axis of the weight.
        const shape = given.isLast ? [columns, rowCount] : [rowCount, columns];
        const values = someMatrix(1, elementCount(shape), seed)[0].map((value) => value ** 3);
        const bounds = Float64Array.from({ length: rowCount }, (_, row) => (least ?? 0) * (row + 1));
        const smallestScales = least === undefined ? undefined : bounds;
        const weight = { ...weightOf(shape, values, given.isLast ? 1 : 0, format), smallestScales };
        const inputs = Array.from({ length: groups }, (_, g) => someInputs(samples, columns, seed + g));
        const errors = inputs.map((own) => own.map(() => new Array<number>(groupRows).fill(0)));
        const { gram } = seenIn([{ inputs, errors }]);
        const { rows, errorBefore, errorAfter } = roundGroups(
          weight,
          given.rounding,
          gram,
          undefined,
          rememberFactors(),
        );
        const wanted = rowsOf(rowsOfWeight(weight), rowCount);
        const found = errorsOf(inputs, wanted, rowsOf(dequantizeRows(rows, rowCount), rowCount));
        const toNearest = roundToNearest(rowsOfWeight(weight), rowCount, format, smallestScales);
        const before = errorsOf(inputs, wanted, rowsOf(dequantizeRows(toNearest, rowCount), rowCount));
        const slack =
          1e-6 *
          Math.max(
            ...errorsOf(
              inputs,
              wanted,
              wanted.map((row) => row.map(() => 0)),
            ),
          );
        for (const [row, error] of found.entries()) expect(error).toBeLessThanOrEqual(before[row] + slack);
        const count = samples * rowCount;
        expect(Math.abs(errorAfter - sumOf(found) / count)).toBeLessThanOrEqual(slack);
        expect(Math.abs(errorBefore - sumOf(before) / count)).toBeLessThanOrEqual(slack);
        const { low, high } = codeLimits(format);
        expect(rows.codes.every((code) => code >= low && code <= high)).toBe(true);
        const perRow = rows.scales.length / rowCount;
        for (const [i, scale] of rows.scales.entries()) {
          const row = perRow < 1 ? rowCount - 1 : Math.floor(i / perRow);
          expect(scale).toBeGreaterThanOrEqual(Math.fround(bounds[row]));
        }
        expect([rows.scales.length, rows.groupSize]).toEqual([toNearest.scales.length, toNearest.groupSize]);
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  it("finds better codes than rounding to nearest where inputs go together", () => {
    for (const order of ["natural", "activation"] as const) {
      const format: WeightFormat = { bits: 3, symmetric: false, granularity: perChannel };
      const weight = weightOf([16, 32], someMatrix(16, 32, 1).flat(), 0, format);
      const inputs = someInputs(100, 32, 2);
      const { gram } = seenIn([{ inputs: [inputs], errors: [inputs.map(() => [0])] }]);
      const { errorBefore, errorAfter } = roundGroups(
        weight,
        { ...natural, order },
        gram,
        undefined,
        rememberFactors(),
      );
      expect(errorAfter).toBeLessThan(0.5 * errorBefore);
    }
  });

  it("gives groups that are chosen when their turn comes grids of their own", () => {
    const format: WeightFormat = { bits: 4, symmetric: false, granularity: { kind: "per-group", groupSize: 4 } };
    const weight = weightOf([4, 16], someMatrix(4, 16, 3).flat(), 0, format);
    const inputs = someInputs(60, 16, 4);
    const { gram } = seenIn([{ inputs: [inputs], errors: [inputs.map(() => [0])] }]);
    const [still, moving] = (["static", "dynamic"] as const).map(
      (groups) => roundGroups(weight, { ...natural, groups }, gram, undefined, rememberFactors()).rows,
    );
    expect(moving.scales).toHaveLength(still.scales.length);
    expect(moving.scales).not.toEqual(still.scales);
    // The first group of a row has nothing to make up for.
    for (const row of [0, 1, 2, 3]) expect(moving.scales[4 * row]).toBe(still.scales[4 * row]);
  });

  it("moves the weight to what the output lacks, on a grid for what it becomes", () => {
    const format: WeightFormat = { bits: 8, symmetric: false, granularity: perChannel };
    const given = someMatrix(3, 6, 5);
    const change = someMatrix(3, 6, 6).map((row) => row.map((value) => 3 * value));
    const inputs = someInputs(40, 6, 7);
    const half: Half = { inputs: [inputs], errors: [outputsOf(inputs, change)] };
    const { gram, cross } = seenIn([half, half]);
    const weight = weightOf([3, 6], given.flat(), 0, format);
    const rounded = roundGroups(weight, { ...natural, damping: 1e-9 }, gram, cross, rememberFactors());
    const values = rowsOf(dequantizeRows(rounded.rows, 3), 3);
    for (const [row, own] of values.entries()) {
      for (const [k, value] of own.entries()) {
        expect(Math.abs(value - given[row][k] - change[row][k])).toBeLessThan(3 * rounded.rows.scales[row]);
      }
    }
    const wanted = given.map((row, r) => row.map((value, k) => value + change[r][k]));
    const found = errorsOf([inputs], wanted, values);
    expect(rounded.errorAfter).toBeCloseTo((2 * sumOf(found)) / (gram.rows * 3), 6);
    // To nearest is what becomes of the weight without any of this.
    expect(rounded.errorBefore).toBeGreaterThan(100 * rounded.errorAfter);
  });
});
