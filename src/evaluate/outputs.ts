/** Below this a probability counts as this: a quantized Softmax returns exact zeros, whose divergence would be infinite. */
const smallestProbability = 1e-12;

/** Index of the largest value, the first one where several are equal; -1 where none is a number. */
export function argMax(values: Float32Array): number {
  let best = -1;
  for (let i = 0; i < values.length; i++) {
    if (best < 0 ? !Number.isNaN(values[i]) : values[i] > values[best]) best = i;
  }
  return best;
}

/** Whether a class is among the `k` largest values; of equal values the one with the lower index goes first. */
export function isAmongLargest(values: Float32Array, index: number, k: number): boolean {
  if (Number.isNaN(values[index])) return false;
  let larger = 0;
  for (let i = 0; i < values.length; i++) {
    if (values[i] > values[index] || (values[i] === values[index] && i < index)) larger++;
  }
  return larger < k;
}

/**
 * Kullback-Leibler divergence of two outputs in nats: sum of P · ln(P / Q) with P and Q their softmax, or themselves where
 * the model ends in a Softmax already.
 *
 * @param reference output of the model that is taken as the truth
 */
export function divergence(reference: Float32Array, other: Float32Array): number {
  const areProbabilities = isDistribution(reference);
  const logarithmsOf = areProbabilities ? logarithms : logSoftmax;
  return divergenceOfLogarithms(logarithmsOf(reference), logarithmsOf(other));
}

/**
 * The same of two distributions that are given by their logarithms.
 *
 * @param p of the one that is taken as the truth
 */
export function divergenceOfLogarithms(p: Float64Array, q: Float64Array): number {
  // What never happens contributes nothing, however unlikely the other model finds it.
  const sum = p.reduce(
    (total, logP, i) => (logP === Number.NEGATIVE_INFINITY ? total : total + Math.exp(logP) * (logP - q[i])),
    0,
  );
  return Math.max(sum, 0);
}

/** Sums of squares of a signal and of what is added to it, for a ratio in decibels. */
export interface SignalNoise {
  readonly signal: number;
  readonly noise: number;
}

/** Where both are the same infinity, as masked scores are, there is neither signal nor noise. */
export function signalNoise(reference: Float32Array, other: Float32Array): SignalNoise {
  let signal = 0;
  let noise = 0;
  for (let i = 0; i < reference.length; i++) {
    if (reference[i] === other[i] && !Number.isFinite(reference[i])) continue;
    signal += reference[i] ** 2;
    noise += (reference[i] - other[i]) ** 2;
  }
  return { signal, noise };
}

/**
 * Signal to quantization noise ratio in decibels: infinite where there is no noise, -infinite where there is no signal or
 * the two differ by more than numbers can say. Never NaN, so that ratios can be sorted.
 */
export function sqnrDb({ signal, noise }: SignalNoise): number {
  if (noise === 0) return Number.POSITIVE_INFINITY;
  const isComparable = Number.isFinite(signal) && Number.isFinite(noise);
  return isComparable ? 10 * Math.log10(signal / noise) : Number.NEGATIVE_INFINITY;
}

/** A ratio of `sqnrDb` for people. */
export function describeDb(db: number): string {
  if (Number.isFinite(db)) return `${db.toFixed(1)} dB`;
  return db === Number.POSITIVE_INFINITY ? "no error" : "all error";
}

/** Whether an output holds finite numbers wherever the reference does. */
export function isAsFinite(reference: Float32Array, other: Float32Array): boolean {
  return reference.every((value, i) => !Number.isFinite(value) || Number.isFinite(other[i]));
}

function isDistribution(values: Float32Array): boolean {
  let sum = 0;
  for (const value of values) {
    if (value < 0 || value > 1) return false;
    sum += value;
  }
  return Math.abs(sum - 1) < 1e-3;
}

export function logSoftmax(values: Float32Array | Float64Array): Float64Array {
  let largest = Number.NEGATIVE_INFINITY;
  for (const value of values) largest = Math.max(largest, value);
  let sum = 0;
  for (const value of values) sum += Math.exp(value - largest);
  const logarithm = Math.log(sum);
  return Float64Array.from(values, (value) => value - largest - logarithm);
}

function logarithms(values: Float32Array): Float64Array {
  const sum = values.reduce((total, value) => total + Math.max(value, smallestProbability), 0);
  return Float64Array.from(values, (value) => Math.log(Math.max(value, smallestProbability) / sum));
}
