import type { Detail, Distribution, Observed, Range } from "../../math/distribution.js";

/** Equidistant values. */
export interface EvenLevels {
  readonly first: number;
  readonly step: number;
  readonly count: number;
}

/** The values that a grid has: equidistant ones, or a list of them with the borders between what becomes each. */
export type Levels = EvenLevels | { readonly values: readonly number[]; readonly borders: readonly number[] };

/** The kind of grid that a range is looked for. */
export interface GridRule {
  readonly bits: number;
  readonly symmetric: boolean;
  /** The levels of the grid that covers a range. */
  levelsOf(range: Range): Levels;
}

/** Which range a grid should cover: a wide one is coarse, a narrow one cuts values off. */
export interface RangeEstimator {
  readonly name: string;
  /** One line for help. */
  readonly summary: string;
  readonly needs: Detail;
  /** Pure. Grids hold zero, so a range that does not is widened to it by whoever makes the grid. */
  estimate(observed: Observed, rule: GridRule): Range;
}

/** What an estimator that needs it was given. */
export function distributionOfObserved({ distribution }: Observed): Distribution {
  if (distribution === undefined) throw new Error("the distribution of the values was not collected");
  return distribution;
}

/** A range without what lies beyond the extremes and zero. */
export function within(extremes: Range, low: number, high: number): Range {
  return { low: Math.max(low, Math.min(extremes.low, 0)), high: Math.min(high, Math.max(extremes.high, 0)) };
}

/**
 * Squared error of the values on the levels that a range leads to.
 *
 * @param most as in `Distribution.squaredError`
 */
export function errorOf(distribution: Distribution, rule: GridRule, range: Range, most?: number): number {
  return errorOnLevels(distribution, rule.levelsOf(range), most);
}

/** Squared error of the values on some levels. */
export function errorOnLevels(distribution: Distribution, levels: Levels, most?: number): number {
  return "values" in levels
    ? distribution.squaredErrorBetween(levels.values, levels.borders)
    : distribution.squaredError(levels.first, levels.step, levels.count, most);
}
