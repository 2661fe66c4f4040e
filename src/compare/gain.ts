import type { Sample } from "../data/samples.js";
import type { Session } from "../engine/engine.js";
import type { Value } from "../graph/graph.js";
import { isFloatType } from "../tensor/element-type.js";
import { compareOutputs, type SampleComparison } from "./outputs.js";

/** How far a model's outputs are from the float network's, and on which samples. */
export interface Compared {
  /** Mean divergence of the softmax of the first output, in nats. */
  readonly kl: number;
  /** Signal to error of all outputs, in decibels. */
  readonly sqnrDb: number;
  readonly samples: readonly ComparedSample[];
}

/** How far a model's outputs are from the float network's on one sample. */
export interface ComparedSample {
  /** Divergence of the softmax of the first output, in nats. */
  readonly kl: number;
  /** Squared error of the first output by its mean square over all samples. */
  readonly error: number;
  /** The same of the other outputs. */
  readonly others: readonly number[];
}

/** @throws RecoupError as `compareOutputs` */
export async function compareSamples(
  reference: Session,
  model: Session,
  samples: AsyncIterable<Sample>,
): Promise<Compared> {
  const compared: SampleComparison[] = [];
  const { kl, sqnrDb } = await compareOutputs(reference, model, samples, (sample) => compared.push(sample));
  // The same for every model and every choice of samples, whatever was empty there.
  const names = reference.outputs.filter(isFloats).map(({ name }) => name);
  const errors = names.map((name) => {
    const signal = meanOf(compared.map(({ outputs }) => outputs.get(name)?.signal ?? 0));
    // What is zero in the float network has no relative error.
    return compared.map(({ outputs }) => (outputs.get(name)?.noise ?? 0) / (signal || 1));
  });
  const sampled = compared.map(({ kl: own }, i): ComparedSample => {
    const [error = 0, ...others] = errors.map((ofOutput) => ofOutput[i]);
    return { kl: own, error, others };
  });
  return { kl, sqnrDb, samples: sampled };
}

function isFloats({ type }: Value): boolean {
  return type.kind === "tensor" && isFloatType(type.elementType);
}

/** Signal to error of the output that is farthest from the float network's, in decibels. */
export function leastSqnrDb({ samples }: Pick<Compared, "samples">): number {
  const errors = samples.map(({ error, others }) => [error, ...others]);
  return Math.min(...(errors[0] ?? []).map((_, output) => -10 * Math.log10(meanOf(errors.map((own) => own[output])))));
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

/** Errors that differ by less, in nats or as a share of the mean square, differ by the rounding of float32. */
const rounding = 1e-12;

/** Whether an error is smaller than another by a share, and by more than the scatter over the samples explains. */
export function isBetter(before: Pick<Compared, "samples">, after: Pick<Compared, "samples">, bar: Bar): boolean {
  const { gain, mean, meanAfter, standardError } = gainOf(before, after, bar.rank);
  // What gave no numbers is worse than anything that gives some.
  if (!Number.isFinite(mean)) return Number.isFinite(meanAfter);
  return passes(gain, mean, standardError, bar);
}

/** Whether an error is larger than another as `isBetter` has it, both measured by the other. */
export function isWorse(before: Pick<Compared, "samples">, after: Pick<Compared, "samples">, bar: Bar): boolean {
  const { gain, mean, meanAfter, standardError } = gainOf(before, after, bar.rank);
  if (!Number.isFinite(meanAfter)) return Number.isFinite(mean);
  return passes(-gain, meanAfter, standardError, bar);
}

/** @param mean the larger of the two errors, of which a share is asked for */
function passes(gain: number, mean: number, standardError: number, { leastGain, certainty }: Bar): boolean {
  return gain > Math.max(leastGain * mean, rounding) && (certainty === 0 || gain > certainty * standardError);
}

/**
 * By how much the mean error over the same samples is smaller. For classifiers, with outputs of up to two axes, the error is
 * the divergence. Where there are several outputs, the errors of each count as shares of its mean error before: none is lost beside
 * another that is larger. The first counts as much as all others together, which may be states for the next run. A single sample is
 * no measure of chance: there the standard error is infinite.
 */
export function gainOf(before: Pick<Compared, "samples">, after: Pick<Compared, "samples">, rank: number) {
  const errorsOf = errorsBy([...before.samples, ...after.samples], rank);
  const [errors, others] = inSharesOf(errorsOf(before), errorsOf(after));
  const gains = errors.map((error, i) => error - others[i]);
  const gain = meanOf(gains);
  const variance = meanOf(gains.map((one) => (one - gain) ** 2)) / (gains.length - 1);
  const standardError = gains.length < 2 ? Number.POSITIVE_INFINITY : Math.sqrt(variance);
  return { gain, mean: meanOf(errors), meanAfter: meanOf(others), standardError };
}

/** The errors of each sample, output by output. */
type Errors = readonly (readonly number[])[];

function errorsBy(samples: Compared["samples"], rank: number) {
  // The softmax of a single value is one, whatever the value.
  const isClassifier = rank <= 2 && samples.some(({ kl }) => kl > 0);
  return ({ samples: own }: Pick<Compared, "samples">): Errors =>
    own.map(({ kl, error, others }) => [isClassifier ? kl : error, ...others]);
}

/** Of two networks of the same function the outputs differ by less, as a share of their mean square. */
const noError = 1e-8;

/** One error for each sample. */
function inSharesOf(before: Errors, after: Errors): readonly (readonly number[])[] {
  if ([...before, ...after].every((errors) => errors.length === 1)) {
    return [before, after].map((all) => all.map(([error]) => error));
  }
  const units = before[0].map((_, output) => {
    const mean = meanOf(before.map((errors) => errors[output]));
    // What gave no numbers gives no unit.
    return Number.isFinite(mean) ? Math.max(mean, noError) : 1;
  });
  return [before, after].map((all) =>
    all.map((errors) => {
      const [first, ...others] = units.map((unit, i) => errors[i] / unit);
      return (first + meanOf(others)) / 2;
    }),
  );
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
