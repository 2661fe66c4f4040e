import type { Cross } from "../calibrate/cross.js";
import type { Gram } from "../calibrate/gram.js";
import type { GptqRounding, WeightFormat } from "../quantize/format.js";
import { type Gridding, outputErrors, type RoundedRows, roundAgainstGram } from "../quantize/gptq.js";
import { usableScale } from "../quantize/grid.js";
import { rowCountOf, rowsOfWeight, type WeightToRound } from "../quantize/round-weights.js";
import { dequantizeRows, nearestCodes, type QuantizedRows } from "../quantize/weight.js";
import { chooseWeightGrid, chooseWeightGrids, codeLimits, type WeightGrids } from "../quantize/weight-grid.js";
import type { FactorOnce } from "./factors.js";
import { moveWeight } from "./move.js";

export interface RoundedWeight {
  readonly rows: QuantizedRows;
  /** Mean squared error of the output beside the best that the target allows: with every row rounded to nearest. */
  readonly errorBefore: number;
  readonly errorAfter: number;
}

/** Shares of the width of its grid that each row is tried with where it has few levels; the first that serves it best stays. */
const widths = [1, 0.8, 0.9, 1.1, 1.2];
/** Of more bits networks gained little for five times the work. */
const mostBitsWithWidths = 3;

/**
 * Rounds a weight against the Gram matrices of its groups of channels. A row that rounding to nearest serves better is
 * rounded to nearest. Below four bits a row's grid is the one that serves its output best among some narrower and wider ones.
 *
 * @param cross what the output lacks, times the input, where the weight shall be moved first
 * @throws RecoupError `model/not-finite` for a weight that holds NaN or infinity
 */
export function roundGroups(
  weight: WeightToRound,
  rounding: GptqRounding,
  gram: Gram,
  cross: Cross | undefined,
  factorOnce: FactorOnce,
): RoundedWeight {
  const { format } = weight;
  const given = rowsOfWeight(weight);
  const rowCount = rowCountOf(weight);
  const columns = given.length / rowCount;
  const grams = factorOnce(gram.products, columns, rounding);
  const groupRows = rowCount / grams.length;
  const ofGroup = <Values extends Float32Array | Float64Array>(values: Values, group: number): Values =>
    values.subarray(group * groupRows * columns, (group + 1) * groupRows * columns) as Values;
  const wanted = cross === undefined ? given : moveWeight(given, rowCount, gram, cross, rounding, factorOnce);
  const grids = chooseWeightGrids(wanted, rowCount, format, weight.smallestScales);
  const nearest = { ...grids, codes: nearestCodes(given, rowCount, grids, format) };
  const restored = dequantizeRows(nearest, rowCount);
  // Every row is rounded to nearest, until GPTQ is seen to serve it better.
  const chosen = {
    ...grids,
    codes: nearest.codes.slice(),
    scales: grids.scales.slice(),
    zeroPoints: grids.zeroPoints.slice(),
  };
  let [before, after] = [0, 0];
  for (const [g, factored] of grams.entries()) {
    const first = g * groupRows;
    const rows = ofGroup(wanted, g);
    const own = gridsOfRows(grids, rowCount, first, groupRows);
    const best = outputErrors(factored, rows, ofGroup(restored, g), groupRows);
    before += sumOf(best);
    // With fewer rows than columns the choice would be learned by heart.
    for (const width of gram.rows < columns ? [1] : widthsOf(format)) {
      const gridding = griddingOf(weight, rounding, columns, own, first, width);
      const rounded = roundAgainstGram(factored, rows, groupRows, gridding, codeLimits(format));
      for (let row = 0; row < groupRows; row++) {
        // What is no number serves no row.
        if (!(rounded.errors[row] < best[row])) continue;
        takeRow(rounded, columns, row, first + row, chosen);
        best[row] = rounded.errors[row];
      }
    }
    after += sumOf(best);
  }
  const count = Math.max(gram.rows * rowCount, 1);
  // Sums of squares, but for the last bits of a difference.
  return { rows: chosen, errorBefore: Math.max(before, 0) / count, errorAfter: Math.max(after, 0) / count };
}

/** Which grids a row is tried with. A grid of a whole weight is no single row's, and one that somebody has set stays. */
export function widthsOf({ granularity, bits, ends }: WeightFormat): readonly number[] {
  return bits <= mostBitsWithWidths && granularity.kind !== "per-tensor" && ends === undefined ? widths : [1];
}

/** @param width of each grid, as a share of the one that the range estimator finds */
function griddingOf(
  { format, smallestScales }: WeightToRound,
  rounding: GptqRounding,
  columns: number,
  grids: WeightGrids,
  firstRow: number,
  width: number,
): Gridding {
  const perRow = Math.ceil(columns / grids.groupSize);
  const widen = (scale: number, row: number) => {
    const widened = Math.fround(Math.max(scale * width, smallestScales?.[firstRow + row] ?? 0));
    return usableScale(widened) === widened ? widened : scale;
  };
  if (rounding.groups === "static" || format.granularity.kind !== "per-group") {
    const scales = grids.scales.map((scale, i) => widen(scale, Math.floor(i / perRow)));
    return { kind: "static", grids: { ...grids, scales } };
  }
  return {
    kind: "dynamic",
    groupSize: grids.groupSize,
    choose: (row, values) => {
      const grid = chooseWeightGrid(values, 0, values.length, format, smallestScales?.[firstRow + row]);
      return { ...grid, scale: widen(grid.scale, row) };
    },
  };
}

/** The grids of some rows; a grid for the whole weight is theirs too. */
function gridsOfRows(grids: WeightGrids, rowCount: number, first: number, count: number): WeightGrids {
  if (grids.scales.length === 1) return grids;
  const perRow = grids.scales.length / rowCount;
  return {
    scales: grids.scales.subarray(first * perRow, (first + count) * perRow),
    zeroPoints: grids.zeroPoints.subarray(first * perRow, (first + count) * perRow),
    groupSize: grids.groupSize,
  };
}

/** Takes over a row with its grids: narrower and wider ones, and dynamic groups, are not those that it had. */
function takeRow(
  { codes, grids }: RoundedRows,
  columns: number,
  row: number,
  target: number,
  into: QuantizedRows,
): void {
  into.codes.set(codes.subarray(row * columns, (row + 1) * columns), target * columns);
  // One grid of a whole weight is every row's.
  const perRow = (into.scales.length * columns) / into.codes.length;
  if (perRow < 1) return;
  into.scales.set(grids.scales.subarray(row * perRow, (row + 1) * perRow), target * perRow);
  into.zeroPoints.set(grids.zeroPoints.subarray(row * perRow, (row + 1) * perRow), target * perRow);
}

function sumOf(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}
