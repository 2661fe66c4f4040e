import { analytic } from "./aciq.js";
import type { RangeEstimator } from "./estimator.js";
import { minMax, movingAverage } from "./extremes.js";
import { entropy } from "./kl.js";
import { meanSquaredError } from "./mse.js";
import { percentile, tighterPercentile } from "./percentile.js";

/** All range estimators, in the order of help. */
export const rangeEstimators: readonly RangeEstimator[] = [
  minMax,
  movingAverage,
  percentile,
  tighterPercentile,
  meanSquaredError,
  analytic,
  entropy,
];

/** @param name as in a recipe; `minmax` where none is given */
export function rangeEstimatorNamed(name = minMax.name): RangeEstimator {
  const found = rangeEstimators.find((estimator) => estimator.name === name);
  if (!found) throw new Error(`there is no range estimator ${name}`);
  return found;
}
