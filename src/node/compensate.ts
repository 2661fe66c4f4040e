import type { LatencyComparison, OutputComparison } from "../compare/outputs.js";
import { compareLatency, compareOutputs, warnOfOutputs } from "../compare/outputs.js";
import { compensateModel, rangesName, stepNames, triedEstimators } from "../compensation.js";
import { chooseSamples } from "../data/choose.js";
import type { Sample } from "../data/samples.js";
import { RecoupError, withPlace } from "../errors.js";
import type { Model } from "../graph/model.js";
import { refuseUnknownOutputs } from "../recipe/named-outputs.js";
import type { StepRule } from "../recipe/recipe.js";
import { blameFlag, resolveStep } from "../recipe/settings.js";
import type { CompensationReport } from "../report/compensation-report.js";
import { sizeOfModelFile, writeModelFile } from "./model-file.js";
import { checkModelOutput, type ModelSource, openDataFor, openModel, placeOfTensors } from "./model-source.js";
import { PhaseClock, type RunPhase } from "./phase-clock.js";
import { createRuntimeEngine } from "./runtime-engine.js";
import { withBoth } from "./side-by-side.js";
import { readWholeFile, writeWholeFile } from "./whole-file.js";

export interface CompensateOptions {
  /** Calibration samples: a folder of pictures, `.npy`, `.npz` or `.jsonl`. */
  readonly data: string;
  /** Where to write the model; nothing is written where it is not given. */
  readonly output?: string;
  /** In order, options behind a name as in `nbc:alpha=0.3`; default: `bc`. `ranges` fits the grids of activations again. */
  readonly steps?: readonly string[];
  /** Default: 128. */
  readonly samples?: number;
  /** Chooses the samples; default: 0. */
  readonly seed?: number;
  /** A Hugging Face `preprocessor_config.json`; default: the one beside the float model. */
  readonly preprocess?: string;
  readonly threads?: number;
  /** Bytes of activations that are held in memory (default: 192 MB); what does not fit goes to temporary files. */
  readonly memory?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (phase: RunPhase, done: number) => void;
}

/** What was gained and what it cost, measured on calibration samples at the runtime's default options. */
export interface CompensationCost {
  readonly bytes: number;
  /** Of the quantized model as it was given. */
  readonly sourceBytes: number;
  readonly sizeRatio: number;
  /** Against the quantized model as it was given, in turns. */
  readonly latency: LatencyComparison;
  /** The quantized model as it was given, against the float model. */
  readonly before: OutputComparison;
  readonly after: OutputComparison;
}

export interface Compensated {
  readonly model: Model;
  readonly report: CompensationReport;
  readonly cost: CompensationCost;
  readonly elapsedMs: Readonly<Record<string, number>>;
}

const defaultSamples = 128;
/** Enough samples for a figure, too few to cost time. */
const mostMeasured = 32;
const mostTimed = 12;

/**
 * Compensates a model file that any tool has quantized. Where nothing helps, what is written is the file that was given,
 * byte for byte.
 *
 * @throws RecoupError for input that has to be changed (`exitCode` 2) and for work that broke off (`exitCode` 1); nothing
 * is written then
 */
export async function compensate(floatPath: string, path: string, options: CompensateOptions): Promise<Compensated> {
  const float = openModel(floatPath);
  const source = openModel(path);
  const { output, threads, memory: memoryBytes, signal, seed = 0, samples: sampleCount = defaultSamples } = options;
  if (output !== undefined) checkModelOutput(output, [...float.files, ...source.files, ...dataRead(options)]);
  const steps = stepsOf(options.steps ?? ["bc"], float.model);
  const samples = await openDataFor(float, options.data, { preprocess: options.preprocess });
  const engine = createRuntimeEngine({ threads, memoryBytes, signal });
  const clock = new PhaseClock(options.onProgress);
  try {
    const models = { float: float.model, quantized: source.model };
    const task = { ...models, steps, samples, sampleCount, seed, engine, onProgress: clock.enter };
    const { model, report } = await compensateModel(task);
    // What follows runs in processes of its own, beside which this one would take memory.
    await engine.close();
    clock.enter("measure", 0);
    const indices = chooseSamples(samples.length, Math.min(mostMeasured, sampleCount), seed);
    const compensated = { model, path: output ?? "the compensated model" };
    const hold = (one: Pick<ModelSource, "model" | "path">) =>
      withBoth(float, one, { threads, signal }, (reference, session) =>
        compareOutputs(reference, session, samples.read(indices)),
      );
    const before = await hold(source);
    const after = report.isChanged ? await hold(compensated) : before;
    const few: Sample[] = [];
    for await (const sample of samples.read(indices.slice(0, mostTimed))) few.push(sample);
    const latency = await withBoth(source, compensated, { threads, signal }, (a, b) => compareLatency(a, b, few));
    const bytes = write(model, report, source, output);
    const sizes = { bytes, sourceBytes: source.bytes, sizeRatio: bytes / source.bytes };
    const warnings = [...report.warnings, ...warnOfOutputs(after)];
    const cost = { ...sizes, latency, before, after };
    return { model, report: { ...report, warnings }, cost, elapsedMs: clock.finish() };
  } catch (error) {
    throw withPlace(error, { file: path });
  } finally {
    await engine.close();
  }
}

export { stepNames };

/** The files that are read besides the models': none of them may be written over. */
export function dataRead({ data, preprocess }: Pick<CompensateOptions, "data" | "preprocess">): readonly string[] {
  return [data, preprocess].filter((path) => typeof path === "string");
}

/** @throws RecoupError `usage/argument` */
function stepsOf(texts: readonly string[], { graph }: Model): readonly StepRule[] {
  const rules = texts.map(stepOf);
  try {
    refuseUnknownOutputs(rules, graph);
  } catch (error) {
    throw blameFlag(error, { steps: texts });
  }
  return rules;
}

function stepOf(text: string): StepRule {
  const [name] = text.split(":");
  const refuse = (message: string) => new RecoupError("usage/argument", message, { field: "--steps" });
  if (!stepNames.includes(name)) {
    throw refuse(`${JSON.stringify(name)} is no step that compensates: there are ${stepNames.join(", ")}`);
  }
  if (name !== rangesName) return resolveStep(text);
  if (text === name) return { use: rangesName };
  const range = triedEstimators.find((one) => text === `${rangesName}:range=${one}`);
  if (range !== undefined) return { use: rangesName, range };
  throw refuse(
    `${rangesName} has one option, range=${triedEstimators.join(" or range=")}, not ${JSON.stringify(text)}`,
  );
}

/** @returns the size in bytes */
function write(
  model: Model,
  { isChanged }: CompensationReport,
  source: ModelSource,
  output: string | undefined,
): number {
  const writing = placeOfTensors(source);
  if (output === undefined) return isChanged ? sizeOfModelFile(model, writing) : source.bytes;
  // A file that keeps its tensors beside it names them: it cannot be copied to another name.
  if (isChanged || source.files.length > 1) return writeModelFile(output, model, writing);
  writeWholeFile(output, readWholeFile(source.path));
  return source.bytes;
}
