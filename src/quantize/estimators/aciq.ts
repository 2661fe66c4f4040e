import type { Distribution, Range } from "../../math/distribution.js";
import { distributionOfObserved, errorOf, type GridRule, type RangeEstimator, within } from "./estimator.js";

/**
 * Where to cut off a density, in units of its mean deviation (Laplace) or standard deviation (Gauss): the smallest error of
 * 2^bits - 1 levels between both ends, integrated numerically, for 2 to 9 bits. One level more changes little.
 *
 * @see Banner et al., ACIQ, arXiv:1810.05723; docs/methods/ranges.md says why not its closed form
 */
const reaches = {
  laplace: [2.0, 3.488, 4.816, 6.1, 7.357, 8.618, 9.878, 11.22],
  gauss: [1.224, 1.952, 2.474, 2.898, 3.274, 3.61, 3.924, 4.207],
} as const;

/**
 * Takes the values for a Laplace or normal density, whichever fits better, of which the best range is known. Values that
 * are never negative are taken for the half of one behind a ReLU.
 */
export const analytic: RangeEstimator = {
  name: "aciq",
  summary: "the best range of a Laplace or normal density with the same spread",
  needs: "distribution",
  estimate(observed, rule) {
    const distribution = distributionOfObserved(observed);
    const candidates = candidatesOf(distribution, rule).map(({ low, high }) => within(observed.extremes, low, high));
    const errors = candidates.map((range) => errorOf(distribution, rule, range));
    return errors[1] < errors[0] ? candidates[1] : candidates[0];
  },
};

function candidatesOf(distribution: Distribution, { bits, symmetric }: GridRule): readonly Range[] {
  if (distribution.low >= 0 && !symmetric) {
    // Half a density at this width is a whole one at a bit more.
    const { mean, rootMeanSquare } = distribution.positive;
    return [
      { low: 0, high: reaches.laplace[bits - 1] * mean },
      { low: 0, high: reaches.gauss[bits - 1] * rootMeanSquare },
    ];
  }
  const middle = symmetric ? 0 : distribution.mean;
  return [
    reaches.laplace[bits - 2] * distribution.meanDeviation,
    reaches.gauss[bits - 2] * distribution.standardDeviation,
  ].map((reach) => ({ low: middle - reach, high: middle + reach }));
}
