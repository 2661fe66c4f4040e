import { basename, resolve } from "node:path";
import type { CheckpointOptions } from "../checkpoint/checkpoint.js";
import { warnOfOutputs } from "../compare/outputs.js";
import type { Engine } from "../engine/engine.js";
import { RecoupError, withPlace } from "../errors.js";
import type { Model } from "../graph/model.js";
import { quantizeModel } from "../pipeline.js";
import type { RunReport } from "../report/run-report.js";
import { checkpointFolder } from "./checkpoint-folder.js";
import { type Measured, measure, samplesToMeasure } from "./measure.js";
import { sizeOfModelFile, writeModelFile } from "./model-file.js";
import { checkModelOutput, openDataFor, openModel, placeOfTensors } from "./model-source.js";
import { PhaseClock, type RunPhase } from "./phase-clock.js";
import { openRecipe, type RecipeOptions } from "./recipe-file.js";
import { whyUnchecked } from "./room-to-run.js";
import { cancelled } from "./runtime-child.js";
import { createRuntimeEngine } from "./runtime-engine.js";
import { ScratchTensors } from "./scratch-tensors.js";
import { readShards } from "./statistics-files.js";

export interface QuantizeOptions extends RecipeOptions {
  /** Calibration samples: a folder of pictures, `.npy`, `.npz` or `.jsonl`. */
  readonly data: string;
  /** Where to write the model; nothing is written where it is not given. */
  readonly output?: string;
  /** Files that `measureStatistics` wrote for this model, recipe and data, one for each shard: ranges come from them. */
  readonly fromStatistics?: readonly string[];
  /** A Hugging Face `preprocessor_config.json`; default: the one beside the model. */
  readonly preprocess?: string;
  /**
   * A folder for what is finished, so that a run that breaks off can be continued. It is made when the first block is
   * finished, then replaces what an earlier run has left there, and is removed when the run is done.
   */
  readonly checkpoint?: string;
  /**
   * Continue the run that left the checkpoint, to the same bytes; where there is none, start from the beginning. A
   * checkpoint of another model, recipe, data or version is refused and left alone.
   */
  readonly resume?: boolean;
  /** Called with the number of finished blocks that a run goes on from. */
  readonly onResume?: (blocks: number) => void;
  /** Called with the number of finished blocks in the checkpoint, after each that is added. */
  readonly onCheckpoint?: (blocks: number) => void;
  readonly threads?: number;
  /**
   * Run the small model and hold it against the original (default). Where there is less memory free than that takes, it is
   * left out in any case, and a warning says so.
   */
  readonly check?: boolean;
  /**
   * Put large tensors into `OUTPUT.data` whatever the size of the model, or nowhere but into `OUTPUT` up to 1.5 GB, above which
   * readers fail; default: as the model that is given does it.
   */
  readonly externalData?: boolean;
  /** Bytes of activations that are held in memory (default: 192 MB); what does not fit goes to temporary files. */
  readonly memory?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (phase: RunPhase, done: number) => void;
}

/** What a run gained and what it cost, measured on calibration samples; a warning says why where it was not measured. */
export interface Cost extends Partial<Measured> {
  /** Size of the model as a file, whether it was written or not. */
  readonly bytes: number;
  readonly sourceBytes: number;
  readonly sizeRatio: number;
}

export interface Quantized {
  readonly model: Model;
  readonly report: RunReport;
  readonly cost: Cost;
  readonly elapsedMs: Readonly<Record<string, number>>;
}

/**
 * Quantizes a model file. The output is written when the model is checked; then it is held against the original.
 *
 * @throws RecoupError for input that has to be changed (`exitCode` 2) and for work that broke off (`exitCode` 1); nothing
 * is written then, but for the output of a run that is cancelled while its finished model is held against the original
 */
export async function quantize(path: string, options: QuantizeOptions): Promise<Quantized> {
  const { threads, memory: memoryBytes, signal } = options;
  const engine = createRuntimeEngine({ threads, memoryBytes, signal });
  try {
    return await quantizeOn(engine, path, options);
  } finally {
    await engine.close();
  }
}

async function quantizeOn(engine: Engine, path: string, options: QuantizeOptions): Promise<Quantized> {
  const source = openModel(path);
  if (options.output !== undefined) checkModelOutput(options.output, [...source.files, ...filesRead(options)]);
  const checkpoint = openCheckpoint(options);
  const recipe = openRecipe(options, source.model);
  const samples = await openDataFor(source, options.data, { preprocess: options.preprocess });
  const shards = options.fromStatistics && (await readShards(options.fromStatistics));
  const { threads, signal } = options;
  const clock = new PhaseClock(options.onProgress);
  try {
    const store = new ScratchTensors();
    const unchecked = whyUnchecked(options.check, source);
    const onProgress = (phase: RunPhase, done: number) => {
      if (signal?.aborted) throw cancelled();
      clock.enter(phase, done);
    };
    const run = { engine, shards, checkpoint, store, unchecked, onProgress };
    const task = { model: source.model, recipe, samples, ...run };
    const { model, report } = await quantizeModel(task);
    // What follows runs in processes of its own, beside which this one would take memory.
    await engine.close();
    const writing = placeOfTensors(source, options.externalData);
    const bytes =
      options.output === undefined ? sizeOfModelFile(model, writing) : writeModelFile(options.output, model, writing);
    const left = await removeCheckpoint(checkpoint);
    // The model is checked and decided on: figures that say how good it is need not be waited for.
    clock.enter("measure", 0);
    const indices = samplesToMeasure(samples, recipe);
    const small = { model, path: options.output ?? "the quantized model" };
    const onSample = (count: number) => clock.enter("measure", count / indices.length);
    const { measured = {}, warnings: found } = unchecked
      ? { warnings: [] }
      : await tryToMeasure(() => measure(source, small, samples, indices, { threads, signal, onSample }), signal);
    const warnings = [...report.warnings, ...left, ...found];
    const cost = { bytes, sourceBytes: source.bytes, sizeRatio: bytes / source.bytes, ...measured };
    return { model, report: { ...report, warnings }, cost, elapsedMs: clock.finish() };
  } catch (error) {
    throw withPlace(error, { file: basename(path) });
  }
}

/** A finished model is not lost where it cannot be held against the original. */
async function tryToMeasure(
  work: () => Promise<Measured>,
  signal: AbortSignal | undefined,
): Promise<{ readonly measured?: Measured; readonly warnings: readonly string[] }> {
  try {
    const measured = await work();
    return { measured, warnings: warnOfOutputs(measured.output) };
  } catch (error) {
    if (!(error instanceof RecoupError) || signal?.aborted) throw error;
    return { warnings: [`the small model was not held against the original: ${error.message}`] };
  }
}

/** The files that are read besides the model's: none of them may be written over. */
export function filesRead(options: Pick<QuantizeOptions, ReadOption>): readonly string[] {
  const { data, recipe, from, preprocess, fromStatistics = [] } = options;
  return [data, recipe, from, preprocess, ...fromStatistics].filter((path) => typeof path === "string");
}

type ReadOption = "data" | "recipe" | "from" | "preprocess" | "fromStatistics";

function openCheckpoint(options: QuantizeOptions): CheckpointOptions | undefined {
  const { checkpoint: folder, resume, output, onResume, onCheckpoint } = options;
  const refuse = (message: string, field: string) => new RecoupError("usage/argument", message, { field });
  if (folder === undefined) {
    if (resume) throw refuse("needs the folder of a checkpoint", "resume");
    return undefined;
  }
  if (output !== undefined && resolve(folder) === resolve(output)) throw refuse("is the output too", "checkpoint");
  return { store: checkpointFolder(folder), resume, onResume, onCheckpoint };
}

/** @returns warnings */
async function removeCheckpoint(checkpoint: CheckpointOptions | undefined): Promise<readonly string[]> {
  try {
    await checkpoint?.store.clear();
    return [];
  } catch (error) {
    if (!(error instanceof RecoupError)) throw error;
    return [`${error.place.file}: the checkpoint of the finished run is left: ${error.message}`];
  }
}
