import { basename } from "node:path";
import { compareLatency, compareOutputs, type LatencyComparison, type OutputComparison } from "../compare/outputs.js";
import { chooseSamples } from "../data/choose.js";
import type { Sample, Samples } from "../data/samples.js";
import { withPlace } from "../errors.js";
import type { Model } from "../graph/model.js";
import { type Phase, quantizeModel } from "../pipeline.js";
import type { RecipeInput } from "../recipe/recipe.js";
import { resolveRecipe, type Settings } from "../recipe/settings.js";
import type { RunReport } from "../report/run-report.js";
import { writeModelFile } from "./model-file.js";
import { checkOutput, type ModelSource, openDataFor, openModel } from "./model-source.js";
import { readRecipeFile } from "./recipe-file.js";
import { createRuntimeEngine, type RuntimeOptions } from "./runtime-engine.js";
import { withBoth } from "./side-by-side.js";

export interface QuantizeOptions extends Settings {
  /** Calibration samples: a folder of pictures, `.npy`, `.npz` or `.jsonl`. */
  readonly data: string;
  /** Where to write the model; nothing is written where it is not given. */
  readonly output?: string;
  /** A recipe, or the path of a recipe file; settings override it. */
  readonly recipe?: RecipeInput | string;
  /** A Hugging Face `preprocessor_config.json`; default: the one beside the model. */
  readonly preprocess?: string;
  readonly threads?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (phase: Phase | "measure", done: number) => void;
}

/** What a run gained and what it cost, measured on calibration samples. */
export interface Cost {
  readonly bytes: number;
  readonly sourceBytes: number;
  readonly sizeRatio: number;
  readonly latency: LatencyComparison;
  readonly output: OutputComparison;
}

export interface Quantized {
  readonly model: Model;
  readonly report: RunReport;
  readonly cost: Cost;
  readonly elapsedMs: Readonly<Record<string, number>>;
}

/** Samples on which the result is held against the original: enough for a figure, too few to cost time. */
const measuredSamples = 32;

/**
 * Quantizes a model file.
 *
 * @throws RecoupError for input that has to be changed (`exitCode` 2) and for work that broke off (`exitCode` 1); nothing
 * is written then
 */
export async function quantize(path: string, options: QuantizeOptions): Promise<Quantized> {
  const source = openModel(path);
  if (options.output !== undefined) checkOutput(options.output, source.files);
  const file = typeof options.recipe === "string" ? options.recipe : undefined;
  const recipe = resolveRecipe(
    file ? readRecipeFile(file) : (options.recipe as RecipeInput | undefined),
    options,
    file,
  );
  const samples = await openDataFor(source, options.data, { preprocess: options.preprocess });
  const engine = createRuntimeEngine({ threads: options.threads, signal: options.signal });
  const clock = new PhaseClock(options.onProgress);
  try {
    const task = { model: source.model, recipe, samples, engine, onProgress: clock.enter };
    const { model, report } = await quantizeModel(task);
    const indices = chooseSamples(samples.length, Math.min(measuredSamples, recipe.samples), recipe.seed);
    const onMeasured = (done: number) => clock.enter("measure", done);
    const measured = await measure(source, model, samples, indices, options, onMeasured);
    const bytes = options.output === undefined ? 0 : writeModelFile(options.output, model);
    const cost = { bytes, sourceBytes: source.bytes, sizeRatio: bytes / source.bytes, ...measured };
    return { model, report, cost, elapsedMs: clock.finish() };
  } catch (error) {
    throw withPlace(error, { file: basename(path) });
  } finally {
    await engine.close();
  }
}

async function measure(
  source: ModelSource,
  model: Model,
  samples: Samples,
  indices: readonly number[],
  options: RuntimeOptions,
  onProgress: (done: number) => void,
): Promise<Pick<Cost, "latency" | "output">> {
  const taken: Sample[] = [];
  const onSample = () => onProgress(taken.length / indices.length);
  return withBoth(source.model, model, options, async (reference, session) => {
    const output = await compareOutputs(reference, session, keep(samples.read(indices), taken), onSample);
    return { output, latency: await compareLatency(reference, session, taken) };
  });
}

async function* keep(samples: AsyncIterable<Sample>, taken: Sample[]): AsyncIterable<Sample> {
  for await (const sample of samples) {
    taken.push(sample);
    yield sample;
  }
}

/** Time spent in each phase. */
class PhaseClock {
  readonly #elapsedMs = new Map<string, number>();
  readonly #onProgress: QuantizeOptions["onProgress"];
  #phase: string | undefined;
  #since = performance.now();

  constructor(onProgress: QuantizeOptions["onProgress"]) {
    this.#onProgress = onProgress;
  }

  readonly enter = (phase: Phase | "measure", done: number): void => {
    if (phase !== this.#phase) this.#close(phase);
    this.#onProgress?.(phase, done);
  };

  finish(): Readonly<Record<string, number>> {
    this.#close(undefined);
    return Object.fromEntries(this.#elapsedMs);
  }

  #close(next: string | undefined): void {
    const now = performance.now();
    if (this.#phase !== undefined) {
      this.#elapsedMs.set(this.#phase, (this.#elapsedMs.get(this.#phase) ?? 0) + now - this.#since);
    }
    this.#phase = next;
    this.#since = now;
  }
}
