import { distributionOf, type Range } from "../math/distribution.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { strideFor } from "../math/strides.js";
import type { EvenLevels } from "../quantize/estimators/estimator.js";
import { rangeEstimatorNamed } from "../quantize/estimators/index.js";
import { rangeOfLeastError } from "../quantize/estimators/mse.js";
import type { WeightFormat } from "../quantize/format.js";
import { gridOfRange, gridRuleOf } from "../quantize/weight-grid.js";
import { type Piece, type SplitRule, splitByError, splitLargest, wholePieces } from "./split-columns.js";
import type { WeightColumns } from "./weight-columns.js";

/** A weight that is to be split, and the grid that it is rounded to. */
export interface SplitTask {
  readonly weight: WeightColumns;
  readonly format: WeightFormat;
  /** How the ends of the grid are found: `folded`, or a range estimator that looks at the split values. */
  readonly clip: string;
  /** What an error in a column counts, for each group: `[groups][channels]`; the same for all where not given. */
  readonly importance?: readonly ArrayLike<number>[];
}

/** How the columns of a weight are split, and where its grid ends then. */
export interface SplitPlan {
  /** For each group, the appended pieces last. */
  readonly pieces: readonly (readonly Piece[])[];
  /** For each row, or one for the whole weight. */
  readonly ends: readonly Range[];
  readonly scales: readonly number[];
  /** Sum of the squared differences between the weight and what the rounded pieces add up to. */
  readonly error: number;
}

/** How often the choice of columns and the grid are found in turns. */
const rounds = 3;

/** Sorted values take several times the memory of the weight; of large ones every few are enough. */
const mostValues = 2 ** 20;

/** The weight on the grid that its format's estimator finds, with no column split. */
export function planWithoutSplits({ weight, format, importance }: SplitTask): SplitPlan {
  const pieces = weight.groups.map(wholePieces);
  return fitGrids({ weight, format, importance, clip: format.range ?? "minmax" }, pieces);
}

/**
 * Splits columns and finds the grid for them, in turns: the grid decides which columns are outliers. Two choices are tried,
 * the largest columns (as published) and those whose splitting lowers the error most on the grid at hand; the smaller error
 * of the folded weight wins.
 *
 * @param plain what `planWithoutSplits` has found
 */
export function planSplits(task: SplitTask, plain: SplitPlan, rule: SplitRule): SplitPlan {
  const { weight } = task;
  let best: SplitPlan | undefined;
  for (const choose of [chooseLargest, chooseByError]) {
    let scales = plain;
    let chosen = "";
    for (let round = 0; round < rounds; round++) {
      const pieces = weight.groups.map((_, group) => choose(task, group, scales, rule));
      const key = JSON.stringify(pieces);
      if (key === chosen) break;
      chosen = key;
      const found = fitGrids(task, pieces);
      if (best === undefined || found.error < best.error) best = found;
      scales = found;
    }
  }
  return best as SplitPlan;
}

type Choose = (task: SplitTask, group: number, grid: SplitPlan, rule: SplitRule) => readonly Piece[];

const chooseLargest: Choose = ({ weight }, group, { scales }, rule) =>
  splitLargest(weight.groups[group], weight.taps, scales, rule);

const chooseByError: Choose = (task, group, { ends }, rule) => {
  const { weight, importance } = task;
  const { firstRow, rows, columns } = weight.groups[group];
  const levels = ends.map(gridRuleOf(task.format).levelsOf);
  const errorOf = (source: number, pieces: readonly Piece[]) => {
    const column = columns[source];
    let error = 0;
    for (let row = 0; row < rows; row++) {
      const own = levels.length === 1 ? levels[0] : levels[firstRow + row];
      error += foldedError(column, row * weight.taps, (row + 1) * weight.taps, pieces, own);
    }
    return error * (importance?.[group][source] ?? 1);
  };
  return splitByError(weight.groups[group], errorOf, rule);
};

/** The ends of the grid of each row, or of the whole weight, for some pieces. */
function fitGrids(task: SplitTask, pieces: readonly (readonly Piece[])[]): SplitPlan {
  const { weight, format } = task;
  const isWhole = format.granularity.kind === "per-tensor";
  const fits = Array.from({ length: isWhole ? 1 : weight.rows }, (_, row) =>
    fitGrid(task, pieces, isWhole ? undefined : row),
  );
  return {
    pieces,
    ends: fits.map(({ range }) => range),
    scales: fits.map(({ range }) => gridOfRange(range, format).scale),
    error: fits.reduce((sum, { error }) => sum + error, 0),
  };
}

/** The part of a column that lies on one grid. */
interface Run {
  readonly column: Float64Array;
  readonly start: number;
  readonly end: number;
  readonly pieces: readonly Piece[];
  readonly importance: number;
}

function fitGrid(task: SplitTask, pieces: readonly (readonly Piece[])[], row: number | undefined) {
  const { format, clip } = task;
  const runs = runsOf(task, pieces, row);
  const whole = runs.filter((run) => run.pieces.length === 1);
  const split = runs.filter((run) => run.pieces.length > 1);
  const { distribution, share } = distributionOfRuns(whole, task.importance !== undefined);
  const rule = gridRuleOf(format);
  const errorAt = (range: Range, most = Number.POSITIVE_INFINITY) => {
    const levels = rule.levelsOf(range);
    const left = distribution.squaredError(levels.first, levels.step, levels.count, most / share) * share;
    return left > most ? left : split.reduce((sum, run) => sum + errorOfRun(run, levels), left);
  };
  const extremes = extremesOf(runs);
  const range =
    clip === "folded" ? rangeOfLeastError(extremes, format.symmetric, errorAt) : estimate(clip, runs, extremes, task);
  return { range, error: errorAt(range) };
}

/** What a range estimator finds for the split values. */
function estimate(clip: string, runs: readonly Run[], extremes: Range, { format }: SplitTask): Range {
  const estimator = rangeEstimatorNamed(clip);
  const parts = runs.flatMap(({ column, start, end, pieces }) =>
    pieces.map(({ share }) => column.subarray(start, end).map((value) => share * value)),
  );
  const values = Float64Array.from(parts.flatMap((part) => [...part])).sort();
  const distribution = estimator.needs === "distribution" ? distributionOf(values) : undefined;
  return estimator.estimate({ extremes, distribution }, gridRuleOf(format));
}

function runsOf(
  { weight, importance }: SplitTask,
  pieces: readonly (readonly Piece[])[],
  row: number | undefined,
): readonly Run[] {
  return weight.groups.flatMap(({ firstRow, rows, columns }, group): readonly Run[] => {
    if (row !== undefined && (row < firstRow || row >= firstRow + rows)) return [];
    const start = row === undefined ? 0 : (row - firstRow) * weight.taps;
    const end = row === undefined ? rows * weight.taps : start + weight.taps;
    const own: Piece[][] = columns.map(() => []);
    for (const piece of pieces[group]) own[piece.source].push(piece);
    return columns.map((column, c) => {
      return { column, start, end, pieces: own[c], importance: importance?.[group][c] ?? 1 };
    });
  });
}

/** @returns with the number of values that each one stands for */
function distributionOfRuns(runs: readonly Run[], isWeighted: boolean) {
  const count = runs.reduce((sum, { start, end }) => sum + end - start, 0);
  const share = strideFor(count, mostValues);
  const values = new Float64Array(Math.ceil(count / share));
  const weights = new Float64Array(isWeighted ? values.length : 0);
  let seen = 0;
  for (const { column, start, end, importance } of runs) {
    for (let i = start; i < end; i++, seen++) {
      if (seen % share !== 0) continue;
      values[seen / share] = column[i];
      if (isWeighted) weights[seen / share] = importance;
    }
  }
  if (!isWeighted) return { distribution: distributionOf(values.sort()), share };
  const order = Uint32Array.from(values, (_, i) => i).sort((a, b) => values[a] - values[b]);
  const sorted = Float64Array.from(order, (at) => values[at]);
  return {
    distribution: distributionOf(
      sorted,
      Float64Array.from(order, (at) => weights[at]),
    ),
    share,
  };
}

/** Of the halves as they lie around the middle: what grids have to hold at most. */
function extremesOf(runs: readonly Run[]): Range {
  let low = 0;
  let high = 0;
  for (const { column, start, end, pieces } of runs) {
    const share = pieces.reduce((largest, piece) => Math.max(largest, piece.share), 0);
    for (let i = start; i < end; i++) {
      const value = share * column[i];
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return { low, high };
}

function errorOfRun({ column, start, end, pieces, importance }: Run, levels: EvenLevels): number {
  return foldedError(column, start, end, pieces, levels) * importance;
}

/** Squared differences between some values and what their rounded pieces add up to. */
function foldedError(
  column: Float64Array,
  start: number,
  end: number,
  pieces: readonly Piece[],
  { first, step, count }: EvenLevels,
): number {
  let error = 0;
  for (let i = start; i < end; i++) {
    const value = column[i];
    if (value === 0) continue;
    let sum = 0;
    for (const { share, offset } of pieces) {
      const code = roundHalfEven((share * value - first) / step + offset);
      sum += first + clamp(code, 0, count - 1) * step;
    }
    error += (value - sum) ** 2;
  }
  return error;
}
