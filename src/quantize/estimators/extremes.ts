import type { RangeEstimator } from "./estimator.js";

/** All values fit; one outlier makes the grid coarse for all others. */
export const minMax: RangeEstimator = {
  name: "minmax",
  summary: "from the smallest to the largest value",
  needs: "extremes",
  estimate: ({ extremes }) => extremes,
};

/** Depends on the order of the samples, and bounds nothing. For weights the same as `minmax`. */
export const movingAverage: RangeEstimator = {
  name: "moving-average",
  summary: "the extremes of the batches, averaged with falling weights",
  needs: "averageExtremes",
  estimate: ({ extremes, averageExtremes }) => averageExtremes ?? extremes,
};
