import type { Cross } from "../calibrate/cross.js";
import type { Gram } from "../calibrate/gram.js";
import type { GptqRounding } from "../quantize/format.js";
import { type Gridding, outputErrors, type RoundedRows, roundAgainstGram } from "../quantize/gptq.js";
import { rowCountOf, rowsOfWeight, type WeightToRound } from "../quantize/round-weights.js";
import { dequantizeRows, nearestCodes, type QuantizedRows } from "../quantize/weight.js";
import {
  chooseWeightGrid,
  chooseWeightGrids,
  codeLimits,
  groupSizeOf,
  type WeightGrids,
} from "../quantize/weight-grid.js";
import type { FactorOnce } from "./factors.js";
import { moveWeight } from "./move.js";

export interface RoundedWeight {
  readonly rows: QuantizedRows;
  /** Mean squared error of the output beside the best that the target allows: with every row rounded to nearest. */
  readonly errorBefore: number;
  readonly errorAfter: number;
}

/**
 * Rounds a weight against the Gram matrices of its groups of channels. A row that rounding to nearest serves better is
 * rounded to nearest.
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
    const gridding = griddingOf(weight, rounding, columns, gridsOfRows(grids, rowCount, first, groupRows), first);
    const rounded = roundAgainstGram(factored, rows, groupRows, gridding, codeLimits(format));
    const errors = outputErrors(factored, rows, ofGroup(restored, g), groupRows);
    for (let row = 0; row < groupRows; row++) {
      before += errors[row];
      after += Math.min(rounded.errors[row], errors[row]);
      if (rounded.errors[row] <= errors[row]) takeRow(rounded, row, groupRows, first + row, chosen);
    }
  }
  const count = Math.max(gram.rows * rowCount, 1);
  // Sums of squares, but for the last bits of a difference.
  return { rows: chosen, errorBefore: Math.max(before, 0) / count, errorAfter: Math.max(after, 0) / count };
}

function griddingOf(
  { format, smallestScales }: WeightToRound,
  rounding: GptqRounding,
  columns: number,
  grids: WeightGrids,
  firstRow: number,
): Gridding {
  if (rounding.groups === "static" || format.granularity.kind !== "per-group") return { kind: "static", grids };
  return {
    kind: "dynamic",
    groupSize: groupSizeOf(format.granularity, columns),
    choose: (row, values) => chooseWeightGrid(values, 0, values.length, format, smallestScales?.[firstRow + row]),
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

/** Takes over a row with its grids: dynamic groups have their own. */
function takeRow(
  { codes, grids }: RoundedRows,
  row: number,
  rowCount: number,
  target: number,
  into: QuantizedRows,
): void {
  const columns = codes.length / rowCount;
  into.codes.set(codes.subarray(row * columns, (row + 1) * columns), target * columns);
  if (grids.scales.length === 1) return;
  const perRow = grids.scales.length / rowCount;
  into.scales.set(grids.scales.subarray(row * perRow, (row + 1) * perRow), target * perRow);
  into.zeroPoints.set(grids.zeroPoints.subarray(row * perRow, (row + 1) * perRow), target * perRow);
}
