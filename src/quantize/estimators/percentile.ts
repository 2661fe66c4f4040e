import { distributionOfObserved, type RangeEstimator } from "./estimator.js";

/** Cuts off one value in ten thousand at each end. */
export const percentile = cutting("percentile", 1e-4, "10,000");

/** Cuts off one value in a thousand at each end: with few levels, what is left needs them more. */
export const tighterPercentile = cutting("percentile-99.9", 1e-3, "1,000");

function cutting(name: string, cut: number, count: string): RangeEstimator {
  return {
    name,
    summary: `all but one value in ${count} at each end`,
    needs: "distribution",
    estimate(observed, { symmetric }) {
      const distribution = distributionOfObserved(observed);
      if (symmetric) {
        const reach = distribution.magnitudes().quantile(1 - cut);
        return { low: -reach, high: reach };
      }
      return { low: distribution.quantile(cut), high: distribution.quantile(1 - cut) };
    },
  };
}
