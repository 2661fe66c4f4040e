import type { Sample } from "../data/samples.js";
import type { Session } from "../engine/engine.js";
import { RecoupError, withPlace } from "../errors.js";
import { float32Values } from "../tensor/tensor.js";
import { type Interval, type PairedDifference, pairedDifference, wilsonInterval } from "./intervals.js";
import { type Latency, summarizeLatency } from "./latency.js";
import { argMax, divergence, isAmongLargest } from "./outputs.js";

export interface ClassificationOptions {
  /** Added to every label: 1 for models with a background class before the others. */
  readonly labelOffset: number;
  readonly onSample?: (done: number) => void;
}

export interface ClassificationResult {
  readonly task: "classification";
  readonly n: number;
  /** In percent. */
  readonly metrics: { readonly top1: number; readonly top5: number };
  readonly confidence95: { readonly top1: Interval; readonly top5: Interval };
  readonly latencyMs: Latency;
  /** Samples on which the model returned NaN. */
  readonly brokenSamples: number;
  readonly reference?: ReferenceResult;
}

/** The model beside another one on the same samples. */
export interface ReferenceResult {
  readonly metrics: { readonly top1: number; readonly top5: number };
  /** Share of samples with the same largest output, in percent. */
  readonly agreement: number;
  /** Mean Kullback-Leibler divergence of the softmax outputs from the reference's, in nats. */
  readonly kl: number;
  /** Top-1 of the model less top-1 of the reference, in percentage points. */
  readonly top1Difference: PairedDifference;
  readonly latencyMs: Latency;
}

/**
 * Runs labelled samples one at a time, through a reference too where there is one, and counts. The first output of each
 * model holds a value per class.
 *
 * @throws RecoupError `data/label` for a sample without a label or with one the model has no class for, `data/empty`
 */
export async function evaluateClassification(
  session: Session,
  reference: Session | undefined,
  samples: AsyncIterable<Sample>,
  options: ClassificationOptions,
): Promise<ClassificationResult> {
  const own = new Tally();
  const other = new Tally();
  let agreements = 0;
  let kl = 0;
  let wins = 0;
  let losses = 0;
  for await (const sample of samples) {
    const scores = own.take(await run(session, sample), sample, options.labelOffset);
    if (reference) {
      const referenceScores = other.take(await run(reference, sample), sample, options.labelOffset);
      if (argMax(scores) === argMax(referenceScores)) agreements++;
      kl += divergence(referenceScores, scores);
      if (own.lastWasRight && !other.lastWasRight) wins++;
      if (!own.lastWasRight && other.lastWasRight) losses++;
    }
    options.onSample?.(own.count);
  }
  if (own.count === 0) throw new RecoupError("data/empty", "holds no samples");
  const result = own.result();
  if (!reference) return result;
  const { metrics, latencyMs } = other.result();
  return {
    ...result,
    reference: {
      metrics,
      agreement: (100 * agreements) / own.count,
      kl: kl / own.count,
      top1Difference: pairedDifference(wins, losses, own.count),
      latencyMs,
    },
  };
}

interface Scored {
  readonly scores: Float32Array;
  readonly elapsedMs: number;
}

async function run(session: Session, sample: Sample): Promise<Scored> {
  const [output] = session.outputs;
  const { outputs, elapsedMs } = await session.run(sample.feeds, [output.name]);
  const tensor = outputs.get(output.name);
  if (!tensor) throw new RecoupError("engine/run", "returned nothing", { field: output.name });
  try {
    return { scores: float32Values(tensor), elapsedMs };
  } catch (error) {
    throw withPlace(error, { field: output.name });
  }
}

/** Counts of one model. */
class Tally {
  count = 0;
  lastWasRight = false;
  #top1 = 0;
  #top5 = 0;
  #broken = 0;
  readonly #elapsedMs: number[] = [];

  take({ scores, elapsedMs }: Scored, sample: Sample, labelOffset: number): Float32Array {
    const label = labelOf(sample, labelOffset, scores.length);
    this.count++;
    this.#elapsedMs.push(elapsedMs);
    if (scores.some(Number.isNaN)) this.#broken++;
    this.lastWasRight = argMax(scores) === label;
    if (this.lastWasRight) this.#top1++;
    if (isAmongLargest(scores, label, 5)) this.#top5++;
    return scores;
  }

  result(): ClassificationResult {
    return {
      task: "classification",
      n: this.count,
      metrics: { top1: (100 * this.#top1) / this.count, top5: (100 * this.#top5) / this.count },
      confidence95: { top1: wilsonInterval(this.#top1, this.count), top5: wilsonInterval(this.#top5, this.count) },
      latencyMs: summarizeLatency(this.#elapsedMs),
      brokenSamples: this.#broken,
    };
  }
}

function labelOf({ id, label }: Sample, offset: number, classes: number): number {
  if (label === undefined) throw new RecoupError("data/label", "has no label: pass --labels", { field: id });
  const shifted = label + offset;
  if (shifted < 0 || shifted >= classes) {
    const message = `has label ${label}${offset ? ` (${shifted} with the offset)` : ""}, the model has ${classes} classes`;
    throw new RecoupError("data/label", message, { field: id });
  }
  return shifted;
}
