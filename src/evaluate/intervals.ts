/** A pair of percentages between which the true value lies with 95 % confidence. */
export type Interval = readonly [low: number, high: number];

/** Quantile of the normal distribution that leaves 2.5 % on either side. */
export const z = 1.959963984540054;

/**
 * Wilson's interval for a share, in percent. Unlike the textbook interval it is right near 0 and 100 % too.
 *
 * @see Wilson, Probable inference, the law of succession, and statistical inference, 1927
 */
export function wilsonInterval(hits: number, count: number): Interval {
  if (count === 0) return [0, 100];
  const share = hits / count;
  const denominator = 1 + z ** 2 / count;
  const centre = (share + z ** 2 / (2 * count)) / denominator;
  const half = (z * Math.sqrt((share * (1 - share)) / count + z ** 2 / (4 * count ** 2))) / denominator;
  return [100 * Math.max(0, centre - half), 100 * Math.min(1, centre + half)];
}

/** The mean of paired differences and its interval, both in percentage points. */
export interface PairedDifference {
  readonly difference: number;
  readonly confidence95: Interval;
}

/**
 * How much more often one model is right than another on the same samples. Samples on which both are right or both are
 * wrong say nothing, so the interval is far narrower than that of either accuracy. Half a sample is added to each of the
 * four cells (both right, either one, none): without it, ten samples without a difference would prove that there is none.
 *
 * @param wins samples that only the first model gets right
 * @param losses samples that only the second one gets right
 * @see Agresti and Min, Simple improved confidence intervals for comparing matched proportions, 2005
 */
export function pairedDifference(wins: number, losses: number, count: number): PairedDifference {
  if (count === 0) return { difference: 0, confidence95: [-100, 100] };
  const total = count + 2;
  const centre = (wins - losses) / total;
  const half = z * Math.sqrt(((wins + losses + 1) / total - centre ** 2) / total);
  const confidence95 = [100 * Math.max(-1, centre - half), 100 * Math.min(1, centre + half)] as const;
  return { difference: (100 * (wins - losses)) / count, confidence95 };
}
