import { RecoupError } from "../errors.js";
import { distributionOf, type Range } from "../math/distribution.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { strideFor } from "../math/strides.js";
import { rangeEstimatorNamed } from "./estimators/index.js";
import type { Granularity, WeightFormat } from "./format.js";
import { usableScale } from "./grid.js";

/**
 * A weight as codes: real = (code - zeroPoint) · scale. Row-major matrices with a row per output channel; scales and zero
 * points `[rows, groups]`, or one of each for a whole tensor.
 */
export interface QuantizedRows {
  /** `[rows, columns]`, from `lowestCode` to `highestCode`. */
  readonly codes: Int8Array;
  readonly scales: Float32Array;
  readonly zeroPoints: Int8Array;
  /** Columns that share a scale: all of them where there are no groups. */
  readonly groupSize: number;
}

/** Codes are signed: a symmetric grid gives up the lowest one. */
export function codeLimits(format: WeightFormat): { readonly low: number; readonly high: number } {
  const half = 2 ** (format.bits - 1);
  return { low: format.symmetric ? 1 - half : -half, high: half - 1 };
}

/**
 * Rounds a weight to nearest, in the range that the format's estimator finds for each row, group or the whole.
 *
 * @param rows `[rows, columns]`; left unchanged
 * @param smallestScales a lower bound for each row's scale, where something else (a bias) must be expressible in it
 * @throws RecoupError `model/not-finite` for NaN or infinity, naming the element
 */
export function roundToNearest(
  rows: Float32Array,
  rowCount: number,
  format: WeightFormat,
  smallestScales?: Float64Array,
): QuantizedRows {
  const columns = rows.length / rowCount;
  const groupSize = groupSizeOf(format.granularity, columns);
  const isWhole = format.granularity.kind === "per-tensor";
  const groups = isWhole ? 1 : rowCount * Math.ceil(columns / groupSize);
  const codes = new Int8Array(rows.length);
  const scales = new Float32Array(groups);
  const zeroPoints = new Int8Array(groups);
  let group = 0;
  for (const [start, end] of groupBounds(rowCount, columns, groupSize, isWhole)) {
    const bound = smallestScales && !isWhole ? smallestScales[Math.floor(start / columns)] : maximum(smallestScales);
    const grid = chooseWeightGrid(rows, start, end, format, bound);
    scales[group] = grid.scale;
    zeroPoints[group] = grid.zeroPoint;
    roundRun(rows, start, end, grid, format, codes);
    group++;
  }
  return { codes, scales, zeroPoints, groupSize };
}

/** The values that codes stand for, `[rows, columns]`. */
export function dequantizeRows(quantized: QuantizedRows, rowCount: number): Float32Array {
  const { codes, scales, zeroPoints, groupSize } = quantized;
  const columns = codes.length / rowCount;
  const perRow = scales.length === 1 ? 0 : scales.length / rowCount;
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    const group = perRow === 0 ? 0 : Math.floor(i / columns) * perRow + Math.floor((i % columns) / groupSize);
    values[i] = (codes[i] - zeroPoints[group]) * scales[group];
  }
  return values;
}

export function groupSizeOf(granularity: Granularity, columns: number): number {
  return granularity.kind === "per-group" ? Math.min(granularity.groupSize, columns) : columns;
}

interface WeightGrid {
  readonly scale: number;
  readonly zeroPoint: number;
}

function chooseWeightGrid(
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
    distribution: estimator.needs === "distribution" ? distributionOf(someOf(rows, start, end).sort()) : undefined,
  };
  const { bits, symmetric } = format;
  const { low: lowest, high: highest } = codeLimits(format);
  const levelsOf = (range: Range) => {
    const { scale, zeroPoint } = gridOfRange(range, format, smallestScale);
    return { first: (lowest - zeroPoint) * scale, step: scale, count: highest - lowest + 1 };
  };
  return gridOfRange(estimator.estimate(observed, { bits, symmetric, levelsOf }), format, smallestScale);
}

/** A distribution takes several times the memory of its values; a whole table of embeddings has tens of millions. */
const mostValues = 2 ** 20;

/** A copy of a run of values, or of every few of them where there are many. */
function someOf(rows: Float32Array, start: number, end: number): Float32Array {
  const stride = strideFor(end - start, mostValues);
  if (stride === 1) return rows.slice(start, end);
  return Float32Array.from({ length: Math.ceil((end - start) / stride) }, (_, i) => rows[start + i * stride]);
}

function gridOfRange(range: Range, format: WeightFormat, smallestScale: number): WeightGrid {
  const low = Math.min(range.low, 0);
  const high = Math.max(range.high, 0);
  const limits = codeLimits(format);
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

function roundRun(
  rows: Float32Array,
  start: number,
  end: number,
  grid: WeightGrid,
  format: WeightFormat,
  codes: Int8Array,
): void {
  const limits = codeLimits(format);
  for (let i = start; i < end; i++) {
    codes[i] = clamp(roundHalfEven(rows[i] / grid.scale) + grid.zeroPoint, limits.low, limits.high);
  }
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
