import { RecoupError } from "../errors.js";
import { distributionOf, type Range } from "../math/distribution.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { sortFloats } from "../math/sort-floats.js";
import { strideFor } from "../math/strides.js";
import type { EvenLevels, GridRule } from "./estimators/estimator.js";
import { rangeEstimatorNamed } from "./estimators/index.js";
import type { Granularity, WeightFormat } from "./format.js";
import { usableScale } from "./grid.js";

/** real = (code - zeroPoint) · scale. */
export interface WeightGrid {
  readonly scale: number;
  readonly zeroPoint: number;
}

/** The grids of a weight's rows: `[rows, groups]`, or one for a whole tensor. */
export interface WeightGrids {
  readonly scales: Float32Array;
  readonly zeroPoints: Int8Array;
  /** Columns that share a scale: all of them where there are no groups. */
  readonly groupSize: number;
}

/** The smallest and the largest code. */
export interface CodeLimits {
  readonly low: number;
  readonly high: number;
}

/** Codes are signed: a symmetric grid gives up the lowest one. */
export function codeLimits({ bits, symmetric }: WeightFormat): CodeLimits {
  return (symmetric ? symmetricLimits : fullLimits)[bits];
}

/** By bits: they are asked for at every candidate for a grid. */
const fullLimits = Array.from({ length: 9 }, (_, bits): CodeLimits => limitsOf(bits, 0));
const symmetricLimits = Array.from({ length: 9 }, (_, bits): CodeLimits => limitsOf(bits, 1));

function limitsOf(bits: number, lost: number): CodeLimits {
  const half = 2 ** (bits - 1);
  return { low: lost - half, high: half - 1 };
}

export function groupSizeOf(granularity: Granularity, columns: number): number {
  return granularity.kind === "per-group" ? Math.min(granularity.groupSize, columns) : columns;
}

/**
 * The grid in the range that the format's estimator finds for each row, group or the whole of a weight.
 *
 * @param rows `[rows, columns]`
 * @param smallestScales a lower bound for each row's scale, where something else (a bias) must be expressible in it
 * @throws RecoupError `model/not-finite` for NaN or infinity, naming the element
 */
export function chooseWeightGrids(
  rows: Float32Array,
  rowCount: number,
  format: WeightFormat,
  smallestScales?: Float64Array,
): WeightGrids {
  const columns = rows.length / rowCount;
  const groupSize = groupSizeOf(format.granularity, columns);
  const isWhole = format.granularity.kind === "per-tensor";
  const groups = isWhole ? 1 : rowCount * Math.ceil(columns / groupSize);
  const scales = new Float32Array(groups);
  const zeroPoints = new Int8Array(groups);
  let group = 0;
  for (const [start, end] of groupBounds(rowCount, columns, groupSize, isWhole)) {
    const bound = smallestScales && !isWhole ? smallestScales[Math.floor(start / columns)] : maximum(smallestScales);
    const known = format.ends?.[isWhole ? 0 : Math.floor(start / columns)];
    const grid =
      known === undefined ? chooseWeightGrid(rows, start, end, format, bound) : gridOfRange(known, format, bound);
    scales[group] = grid.scale;
    zeroPoints[group] = grid.zeroPoint;
    group++;
  }
  return { scales, zeroPoints, groupSize };
}

/** Where the grid of an element stands among the grids of a weight. */
export function gridIndexOf(
  { scales, groupSize }: WeightGrids,
  rowCount: number,
): (row: number, column: number) => number {
  const perRow = scales.length / rowCount;
  return scales.length === 1 ? () => 0 : (row, column) => row * perRow + Math.floor(column / groupSize);
}

/**
 * Calls for each run of a weight's elements that are on the same grid.
 *
 * @param size number of elements
 */
export function forEachGrid(
  { scales, zeroPoints, groupSize }: WeightGrids,
  rowCount: number,
  size: number,
  visit: (start: number, end: number, scale: number, zeroPoint: number) => void,
): void {
  let group = 0;
  for (const [start, end] of groupBounds(rowCount, size / rowCount, groupSize, scales.length === 1)) {
    visit(start, end, scales[group], zeroPoints[group]);
    group++;
  }
}

/** The grid of a run of values: one row, one group or the whole of a weight. */
export function chooseWeightGrid(
  rows: Float32Array,
  start: number,
  end: number,
  format: WeightFormat,
  smallestScale = 0,
): WeightGrid {
  const extremes = extremesOf(rows, start, end);
  const estimator = rangeEstimatorNamed(format.range);
  const observed = {
    extremes,
    distribution: estimator.needs === "distribution" ? distributionOf(sortFloats(someOf(rows, start, end))) : undefined,
  };
  return gridOfRange(estimator.estimate(observed, gridRuleOf(format, smallestScale)), format, smallestScale);
}

/** The grids of weights are even. */
export interface EvenGridRule extends GridRule {
  levelsOf(range: Range): EvenLevels;
}

/** What range estimators need to know of the grids of a weight. */
export function gridRuleOf(format: WeightFormat, smallestScale = 0): EvenGridRule {
  const { bits, symmetric } = format;
  const limits = codeLimits(format);
  const levelsOf = (range: Range) => {
    const { scale, zeroPoint } = gridOfRange(range, format, smallestScale);
    return { first: (limits.low - zeroPoint) * scale, step: scale, count: limits.high - limits.low + 1 };
  };
  return { bits, symmetric, levelsOf };
}

/** A distribution takes several times the memory of its values; a whole table of embeddings has tens of millions. */
const mostValues = 2 ** 20;

/** A copy of a run of values, or of every few of them where there are many. */
function someOf(rows: Float32Array, start: number, end: number): Float32Array {
  const stride = strideFor(end - start, mostValues);
  if (stride === 1) return rows.slice(start, end);
  return Float32Array.from({ length: Math.ceil((end - start) / stride) }, (_, i) => rows[start + i * stride]);
}

/** The grid that covers a range and zero. */
export function gridOfRange(range: Range, format: WeightFormat, smallestScale = 0): WeightGrid {
  const limits = codeLimits(format);
  const low = Math.min(range.low, 0);
  const high = Math.max(range.high, 0);
  if (format.symmetric) {
    return { scale: usableScale(Math.max(-low / limits.high, high / limits.high, smallestScale)), zeroPoint: 0 };
  }
  const scale = usableScale(Math.max((high - low) / (limits.high - limits.low), smallestScale));
  return { scale, zeroPoint: clamp(roundHalfEven(limits.low - low / scale), limits.low, limits.high) };
}

/** @throws RecoupError `model/not-finite` */
function extremesOf(rows: Float32Array, start: number, end: number): Range {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let i = start; i < end; i++) {
    const value = rows[i];
    if (!Number.isFinite(value)) throw new RecoupError("model/not-finite", `holds ${value} at element ${i}`);
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high };
}

function* groupBounds(
  rowCount: number,
  columns: number,
  groupSize: number,
  isWhole: boolean,
): Iterable<readonly [number, number]> {
  if (isWhole) {
    yield [0, rowCount * columns];
    return;
  }
  for (let row = 0; row < rowCount; row++) {
    for (let column = 0; column < columns; column += groupSize) {
      yield [row * columns + column, row * columns + Math.min(column + groupSize, columns)];
    }
  }
}

function maximum(values: Float64Array | undefined): number | undefined {
  return values?.reduce((largest, value) => Math.max(largest, value), 0);
}
