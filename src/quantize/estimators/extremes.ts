import type { RangeEstimator } from "./estimator.js";

/** All values fit; one outlier makes the grid coarse for all others. */
export const minMax: RangeEstimator = {
  name: "minmax",
  summary: "from the smallest to the largest value",
  needs: "extremes",
  estimate: ({ extremes }) => extremes,
};

/** Depends on the order of the samples: the last ones count most, and their extremes may lie outside. */
export const movingAverage: RangeEstimator = {
  name: "moving-average",
  summary: "the extremes of the samples, averaged with falling weights; for weights the same as minmax",
  needs: "averageExtremes",
  estimate: ({ extremes, averageExtremes }) => averageExtremes ?? extremes,
};
