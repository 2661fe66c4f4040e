import { clamp, roundHalfEven } from "../math/round.js";
import type { WeightFormat } from "./format.js";
import { chooseWeightGrids, codeLimits, forEachGrid, type WeightGrids } from "./weight-grid.js";

/**
 * A weight as codes: real = (code - zeroPoint) · scale. Row-major matrices with a row per output channel; scales and zero
 * points `[rows, groups]`, or one of each for a whole tensor.
 */
export interface QuantizedRows extends WeightGrids {
  /** `[rows, columns]`, from `lowestCode` to `highestCode`. */
  readonly codes: Int8Array;
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
  const grids = chooseWeightGrids(rows, rowCount, format, smallestScales);
  return { ...grids, codes: nearestCodes(rows, rowCount, grids, format) };
}

/** The codes of the levels that lie nearest to some values. */
export function nearestCodes(
  rows: Float32Array,
  rowCount: number,
  grids: WeightGrids,
  format: WeightFormat,
): Int8Array {
  const { low, high } = codeLimits(format);
  const codes = new Int8Array(rows.length);
  forEachGrid(grids, rowCount, rows.length, (start, end, scale, zeroPoint) => {
    for (let i = start; i < end; i++) codes[i] = clamp(roundHalfEven(rows[i] / scale) + zeroPoint, low, high);
  });
  return codes;
}

/** The values that codes stand for, `[rows, columns]`. */
export function dequantizeRows(quantized: QuantizedRows, rowCount: number): Float32Array {
  const { codes } = quantized;
  const values = new Float32Array(codes.length);
  forEachGrid(quantized, rowCount, codes.length, (start, end, scale, zeroPoint) => {
    for (let i = start; i < end; i++) values[i] = (codes[i] - zeroPoint) * scale;
  });
  return values;
}
