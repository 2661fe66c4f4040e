import type { Distribution } from "../../math/distribution.js";
import { distributionOfObserved, type RangeEstimator, within } from "./estimator.js";

/** Bins between zero and the largest magnitude; few values fill fewer. */
const manyBins = 2048;
const fewBins = 512;
const fewValues = 1e5;

/** So many cuts are compared. */
const cuts = 512;

/**
 * The cut whose coarse histogram tells the least of the fine one apart. It knows the resolution of a histogram and not the
 * error of rounding: below 8 bits it is unreliable.
 *
 * @see docs/methods/ranges.md; the TensorRT calibrator does the same
 */
export const entropy: RangeEstimator = {
  name: "kl",
  summary: "the cut that keeps most of the histogram's information (for 8 bits)",
  needs: "distribution",
  estimate(observed, { bits }) {
    const magnitudes = distributionOfObserved(observed).magnitudes();
    const size = magnitudes.count < fewValues ? fewBins : manyBins;
    const bins = histogram(magnitudes, size);
    const groups = 2 ** (bits - 1);
    const stride = Math.ceil((size - groups) / cuts);
    let best = size;
    let least = divergenceOfCut(bins, size, groups);
    for (let cut = size - stride; cut >= groups; cut -= stride) {
      const divergence = divergenceOfCut(bins, cut, groups);
      if (divergence <= least) [best, least] = [cut, divergence];
    }
    const reach = (best / size) * magnitudes.high;
    return within(observed.extremes, -reach, reach);
  },
};

/** Histogram of magnitudes. */
function histogram(magnitudes: Distribution, size: number): Float64Array {
  const below = (i: number) => (i === size ? magnitudes.count : magnitudes.countBelow((i / size) * magnitudes.high));
  const bins = Float64Array.from({ length: size }, (_, i) => below(i + 1) - below(i));
  // The zeros that a ReLU makes would decide everything.
  bins[0] = bins[1];
  return bins;
}

/** Between the first bins, the last of which takes in what is cut off, and the same on so many levels. */
function divergenceOfCut(bins: Float64Array, cut: number, groups: number): number {
  let total = 0;
  for (const count of bins) total += count;
  let kept = 0;
  for (let i = 0; i < cut; i++) kept += bins[i];
  if (total === 0 || kept === 0) return Number.POSITIVE_INFINITY;
  const outside = total - kept;
  let divergence = 0;
  for (let group = 0; group < groups; group++) {
    const [from, to] = [Math.floor((group * cut) / groups), Math.floor(((group + 1) * cut) / groups)];
    let sum = 0;
    let filled = 0;
    for (let i = from; i < to; i++) {
      sum += bins[i];
      if (bins[i] > 0) filled++;
    }
    for (let i = from; i < to; i++) {
      const count = bins[i] + (i === cut - 1 ? outside : 0);
      if (count === 0) continue;
      if (bins[i] === 0) return Number.POSITIVE_INFINITY;
      const p = count / total;
      divergence += p * Math.log(p / (sum / filled / kept));
    }
  }
  return divergence;
}
