import { clamp, roundHalfEven } from "../math/round.js";
import type { WeightFormat } from "./format.js";
import { chooseWeightGrids, codeLimits, gridIndexOf, type WeightGrids } from "./weight-grid.js";

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
  const columns = rows.length / rowCount;
  const limits = codeLimits(format);
  const indexOf = gridIndexOf(grids, rowCount);
  const codes = new Int8Array(rows.length);
  for (let row = 0, i = 0; row < rowCount; row++) {
    for (let column = 0; column < columns; column++, i++) {
      const grid = indexOf(row, column);
      const code = roundHalfEven(rows[i] / grids.scales[grid]) + grids.zeroPoints[grid];
      codes[i] = clamp(code, limits.low, limits.high);
    }
  }
  return codes;
}

/** The values that codes stand for, `[rows, columns]`. */
export function dequantizeRows(quantized: QuantizedRows, rowCount: number): Float32Array {
  const { codes, scales, zeroPoints } = quantized;
  const columns = codes.length / rowCount;
  const indexOf = gridIndexOf(quantized, rowCount);
  const values = new Float32Array(codes.length);
  for (let row = 0, i = 0; row < rowCount; row++) {
    for (let column = 0; column < columns; column++, i++) {
      const grid = indexOf(row, column);
      values[i] = (codes[i] - zeroPoints[grid]) * scales[grid];
    }
  }
  return values;
}
