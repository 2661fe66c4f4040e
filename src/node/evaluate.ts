import type { Sample } from "../data/samples.js";
import type { Session } from "../engine/engine.js";
import { RecoupError, withPlace } from "../errors.js";
import { type ClassificationResult, evaluateClassification } from "../evaluate/classification.js";
import { evaluatePerplexity, type PerplexityResult } from "../evaluate/perplexity.js";
import { openDataFor, openModel, sha256OfFile } from "./model-source.js";
import { withBoth, withOne } from "./side-by-side.js";

/** What a model can be measured at, and what comes out. */
interface Results {
  readonly classification: ClassificationResult;
  readonly perplexity: PerplexityResult;
}

export type Task = keyof Results;

export interface EvaluateOptions<T extends Task = Task> {
  readonly task: T;
  /**
   * Labelled samples: a folder of pictures with `labels.csv` or class folders, or `.npy` with `labels`. For perplexity
   * `.jsonl` with `input_ids`.
   */
  readonly data: string;
  readonly labels?: string;
  readonly preprocess?: string;
  /** A model to hold the model against: usually the float one. */
  readonly reference?: string;
  /** Only the first samples. */
  readonly limit?: number;
  readonly labelOffset?: number;
  readonly threads?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number) => void;
}

export type Evaluation<T extends Task = Task> = Results[T] & {
  readonly model: { readonly bytes: number; readonly sha256: string };
  readonly warnings: readonly string[];
};

type Judge<Result> = (
  session: Session,
  reference: Session | undefined,
  samples: AsyncIterable<Sample>,
  options: { readonly labelOffset: number; readonly onSample: (done: number) => void },
) => Promise<Result>;

const judges: { readonly [T in Task]: Judge<Results[T]> } = {
  classification: evaluateClassification,
  perplexity: (session, reference, samples, { onSample }) => evaluatePerplexity(session, reference, samples, onSample),
};

/**
 * Measures a model on samples, at the runtime's default options.
 *
 * @throws RecoupError for input that has to be changed and for work that broke off
 */
export async function evaluate<T extends Task>(path: string, options: EvaluateOptions<T>): Promise<Evaluation<T>> {
  const source = openModel(path);
  const reference = options.reference === undefined ? undefined : openModel(options.reference);
  // A quantized model often stands in another folder than its configuration; the reference has it beside it.
  const samples = await openDataFor(reference ?? source, options.data, options);
  const count = Math.min(options.limit ?? samples.length, samples.length);
  const indices = Array.from({ length: count }, (_, i) => i);
  const settings = {
    labelOffset: options.labelOffset ?? 0,
    onSample: (done: number) => options.onProgress?.(done / count),
  };
  try {
    const judge = (session: Session, other?: Session) =>
      judges[options.task](session, other, samples.read(indices), settings);
    const result = reference
      ? await withBoth(source, reference, options, judge)
      : await withOne(source, options, judge);
    const model = { bytes: source.bytes, sha256: sha256OfFile(path) };
    const broken = result.task === "classification" ? result.brokenSamples : 0;
    const warnings = broken > 0 ? [`the model returns NaN on ${broken} of ${result.n} samples`] : [];
    return { ...result, model, warnings: [...samples.warnings, ...warnings] };
  } catch (error) {
    // What the models threw names them; what is wrong with a label is wrong where the labels stand.
    const isLabel = error instanceof RecoupError && error.code === "data/label";
    throw withPlace(error, { file: isLabel ? (options.labels ?? options.data) : path });
  }
}
