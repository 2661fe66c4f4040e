import { distributionOfObserved, type RangeEstimator } from "./estimator.js";

const share = 0.9999;

/** Cuts off one value in ten thousand at each end. */
export const percentile: RangeEstimator = {
  name: "percentile",
  summary: "all but one value in 10,000 at each end",
  needs: "distribution",
  estimate(observed, { symmetric }) {
    const distribution = distributionOfObserved(observed);
    if (symmetric) {
      const reach = distribution.magnitudes().quantile(share);
      return { low: -reach, high: reach };
    }
    return { low: distribution.quantile(1 - share), high: distribution.quantile(share) };
  },
};
