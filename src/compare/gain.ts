import type { Sample } from "../data/samples.js";
import type { Session } from "../engine/engine.js";
import { compareOutputs, type SampleComparison } from "./outputs.js";

/** How far a model's outputs are from the float network's, and on which samples. */
export interface Compared {
  /** Mean divergence of the softmax of the first output, in nats. */
  readonly kl: number;
  /** Signal to error of all outputs, in decibels. */
  readonly sqnrDb: number;
  /** Of each sample: its divergence, and the squared error of its outputs by their mean square over all samples. */
  readonly samples: readonly { readonly kl: number; readonly error: number }[];
}

/** @throws RecoupError as `compareOutputs` */
export async function compareSamples(
  reference: Session,
  model: Session,
  samples: AsyncIterable<Sample>,
): Promise<Compared> {
  const compared: SampleComparison[] = [];
  const { kl, sqnrDb } = await compareOutputs(reference, model, samples, (sample) => compared.push(sample));
  const signal = meanOf(compared.map((sample) => sample.signal));
  return { kl, sqnrDb, samples: compared.map(({ kl: own, noise }) => ({ kl: own, error: noise / signal })) };
}

/** What is asked of a model that takes the place of another. */
export interface Bar {
  /** Share of the other's error by which its own is smaller. */
  readonly leastGain: number;
  /** How many times its standard error over the samples the difference has to be. */
  readonly certainty: number;
  /** Of the first output. */
  readonly rank: number;
}

/** Whether an error is smaller than another by a share, and by more than the scatter over the samples explains. */
export function isBetter(
  before: Pick<Compared, "samples">,
  after: Pick<Compared, "samples">,
  { leastGain, certainty, rank }: Bar,
): boolean {
  const { gain, mean, meanAfter, standardError } = gainOf(before, after, rank);
  // What gave no numbers is worse than anything that gives some.
  if (!Number.isFinite(mean)) return Number.isFinite(meanAfter);
  return gain > leastGain * mean && (certainty === 0 || gain > certainty * standardError);
}

/**
 * By how much the mean error over the same samples is smaller. For classifiers, with outputs of up to two axes, the error is
 * the divergence. A single sample is no measure of chance: there the standard error is infinite.
 */
export function gainOf(before: Pick<Compared, "samples">, after: Pick<Compared, "samples">, rank: number) {
  const errorsOf = errorsBy([...before.samples, ...after.samples], rank);
  const [errors, others] = [errorsOf(before), errorsOf(after)];
  const gains = errors.map((error, i) => error - others[i]);
  const gain = meanOf(gains);
  const variance = meanOf(gains.map((one) => (one - gain) ** 2)) / (gains.length - 1);
  const standardError = gains.length < 2 ? Number.POSITIVE_INFINITY : Math.sqrt(variance);
  return { gain, mean: meanOf(errors), meanAfter: meanOf(others), standardError };
}

function errorsBy(samples: Compared["samples"], rank: number) {
  // The softmax of a single value is one, whatever the value.
  const isClassifier = rank <= 2 && samples.some(({ kl }) => kl > 0);
  return ({ samples: own }: Pick<Compared, "samples">) => own.map(({ kl, error }) => (isClassifier ? kl : error));
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
