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
    const totals = totalsOf(histogram(magnitudes, size));
    const groups = 2 ** (bits - 1);
    const stride = Math.ceil((size - groups) / cuts);
    let best = size;
    let least = divergenceOfCut(totals, size, groups);
    for (let cut = size - stride; cut >= groups; cut -= stride) {
      const divergence = divergenceOfCut(totals, cut, groups);
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

/** Running totals of a histogram: of the counts, of the bins that are not empty, of count · log(count). */
interface Totals {
  readonly bins: Float64Array;
  readonly counts: Float64Array;
  readonly filled: Float64Array;
  readonly logs: Float64Array;
}

function totalsOf(bins: Float64Array): Totals {
  const [counts, filled, logs] = [0, 1, 2].map(() => new Float64Array(bins.length + 1));
  for (let i = 0; i < bins.length; i++) {
    counts[i + 1] = counts[i] + bins[i];
    filled[i + 1] = filled[i] + (bins[i] > 0 ? 1 : 0);
    logs[i + 1] = logs[i] + timesLog(bins[i]);
  }
  return { bins, counts, filled, logs };
}

/**
 * Between the first bins, the last of which takes in what is cut off, and the same on so many levels. With p the counts c
 * of the bins by their total T, and q one number for all filled bins of a level,
 *
 * Σ p log(p / q) = (Σ c log c - Σ over levels (log q · Σ c)) / T - log T
 */
function divergenceOfCut({ bins, counts, filled, logs }: Totals, cut: number, groups: number): number {
  const total = counts[bins.length];
  const kept = counts[cut];
  if (kept === 0) return Number.POSITIVE_INFINITY;
  const last = bins[cut - 1];
  const outside = total - kept;
  if (outside > 0 && last === 0) return Number.POSITIVE_INFINITY;
  let sum = logs[cut] - timesLog(last) + timesLog(last + outside);
  let from = 0;
  for (let group = 0; group < groups; group++) {
    const to = Math.floor(((group + 1) * cut) / groups);
    const inside = counts[to] - counts[from];
    if (inside > 0) {
      const taken = to === cut ? inside + outside : inside;
      sum -= taken * Math.log(inside / ((filled[to] - filled[from]) * kept));
    }
    from = to;
  }
  return sum / total - Math.log(total);
}

function timesLog(count: number): number {
  return count > 0 ? count * Math.log(count) : 0;
}
