import type { ValueName } from "../graph/graph.js";
import type { Detail, Observed, Range } from "../math/distribution.js";
import type { ActivationSite } from "./choose-activations.js";
import { rangeEstimatorNamed } from "./estimators/index.js";
import { chooseActivationGrid, levelsOfGrid } from "./grid.js";

/** What has to be seen of each value so that its range can be estimated. */
export function neededDetails(sites: readonly ActivationSite[]): ReadonlyMap<ValueName, Detail> {
  return new Map(sites.map(({ value, format }) => [value, rangeEstimatorNamed(format.range).needs]));
}

/** The range of each value, by the estimator of its format. */
export function estimateRanges(
  sites: readonly ActivationSite[],
  observed: ReadonlyMap<ValueName, Observed>,
): ReadonlyMap<ValueName, Range> {
  return new Map(
    sites.map(({ value, format: { bits, symmetric, range } }) => {
      const seen = observed.get(value);
      if (!seen) throw new Error(`${value} was not observed`);
      const levelsOf = (tried: Range) => levelsOfGrid(chooseActivationGrid(tried, bits, symmetric));
      return [value, rangeEstimatorNamed(range).estimate(seen, { bits, symmetric, levelsOf })];
    }),
  );
}
