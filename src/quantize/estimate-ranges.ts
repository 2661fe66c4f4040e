import type { Graph, ValueName } from "../graph/graph.js";
import type { Detail, Observed, Range } from "../math/distribution.js";
import { feedsOnlySilu, siluFloor } from "../operators/silu.js";
import type { ActivationSite } from "./choose-activations.js";
import type { GridRule } from "./estimators/estimator.js";
import { rangeEstimatorNamed } from "./estimators/index.js";
import type { ActivationFormat } from "./format.js";
import { type ActivationGrid, chooseActivationGrid, levelsOfGrid } from "./grid.js";
import type { Spacing } from "./spacing.js";

/** What has to be seen of each value so that its range can be estimated. */
export function neededDetails(sites: readonly ActivationSite[]): ReadonlyMap<ValueName, Detail> {
  return new Map(sites.map(({ value, format }) => [value, rangeEstimatorNamed(format.range).needs]));
}

/** The range of each value, by the estimator of its format. */
export function estimateRanges(
  graph: Graph,
  sites: readonly ActivationSite[],
  observed: ReadonlyMap<ValueName, Observed>,
): ReadonlyMap<ValueName, Range> {
  return new Map(
    sites.map((site) => {
      const { value } = site;
      const seen = observed.get(value);
      if (!seen) throw new Error(`${value} was not observed`);
      return [value, estimateRange(graph, site, seen)];
    }),
  );
}

/** The range of a value, by the estimator of its format. */
export function estimateRange(graph: Graph, { value, format, spacing }: ActivationSite, observed: Observed): Range {
  const range = rangeEstimatorNamed(format.range).estimate(observed, gridRuleOf(format, spacing));
  // What follows cannot tell smaller values apart.
  return feedsOnlySilu(graph, value) ? { low: Math.max(range.low, siluFloor), high: range.high } : range;
}

/** The even grid that the estimator of a format finds for what was seen. */
export function gridOf(format: ActivationFormat, observed: Observed): ActivationGrid {
  const range = rangeEstimatorNamed(format.range).estimate(observed, gridRuleOf(format, "uniform"));
  return chooseActivationGrid(range, format.bits, format.symmetric);
}

function gridRuleOf({ bits, symmetric }: ActivationFormat, spacing: Spacing): GridRule {
  const levelsOf = (range: Range) => levelsOfGrid(chooseActivationGrid(range, bits, symmetric, spacing));
  return { bits, symmetric, levelsOf };
}
