import { basename } from "node:path";
import { latencyTurns } from "../compare/outputs.js";
import { withPlace } from "../errors.js";
import { type QuantizeTask, quantizeModel } from "../pipeline.js";
import type { TrialCounts } from "../quantization.js";
import { EngineMeter } from "./engine-meter.js";
import { estimatePhases, peakBytes, type TrialEstimate, trialMs } from "./extrapolate.js";
import { measure, samplesToMeasure } from "./measure.js";
import { MemoryWatch } from "./memory-watch.js";
import { sizeOfModelFile } from "./model-file.js";
import { checkModelOutput, openDataFor, openModel, placeOfTensors } from "./model-source.js";
import { PhaseClock } from "./phase-clock.js";
import { filesRead, type QuantizeOptions } from "./quantize.js";
import { openRecipe } from "./recipe-file.js";
import { whyUnchecked } from "./room-to-run.js";
import { createRuntimeEngine, defaultMemoryBytes } from "./runtime-engine.js";
import { ScratchTensors } from "./scratch-tensors.js";
import { SolveClock } from "./solve-clock.js";
import { readShards } from "./statistics-files.js";

/** What quantizing a model with some options would do and take. Time, memory and disk are estimates. */
export interface Preflight {
  /** How many samples it would run. */
  readonly samples: number;
  /** How many were run for this. */
  readonly samplesRun: number;
  readonly blocks: number;
  /** Layers that would be quantized. */
  readonly layers: number;
  /** Layers that would stay in float. */
  readonly skipped: number;
  /** What the phases would take, in milliseconds: together the whole run, with as few trials as there may be. */
  readonly elapsedMs: Readonly<Record<string, number>>;
  /** What the phase `try` consists of. */
  readonly trials: TrialEstimate;
  /** The most that all processes of Recoup would have resident at once; undefined where the system does not tell. */
  readonly memoryBytes: number | undefined;
  /**
   * The most that temporary files would take: models for the runtime, tensors on their way to it and back, and activations that
   * do not fit into `memory`.
   */
  readonly diskBytes: number;
  /** Size of the small model as a file. */
  readonly bytes: number;
  readonly sourceBytes: number;
  readonly sizeRatio: number;
  readonly warnings: readonly string[];
}

/** Three batches have two times between them: one may be an exception. */
const fewestBatches = 3;
const fewestSamples = 8;

/** How long the result is held against the original. */
const measuredSamples = 6;
const measuredTurns = 3;

/** Beside walks that take longer, in milliseconds, it does not count for what the program warms up. */
const briefWalkMs = 15_000;

/**
 * Tells what `quantize` with the same options would do and take, from a run over a few of its samples. Nothing is written
 * but temporary files.
 *
 * @throws RecoupError as `quantize`
 */
export async function preflight(path: string, options: QuantizeOptions): Promise<Preflight> {
  const { threads, memory = defaultMemoryBytes, signal, output } = options;
  const source = openModel(path);
  if (output !== undefined) checkModelOutput(output, [...source.files, ...filesRead(options)]);
  const recipe = openRecipe(options, source.model);
  const samples = await openDataFor(source, options.data, { preprocess: options.preprocess });
  const shards = options.fromStatistics && (await readShards(options.fromStatistics));
  let meter = new EngineMeter(() => "");
  const watch = new MemoryWatch(() => meter.heldBytes);
  const engine = createRuntimeEngine({ threads, memoryBytes: memory, signal });
  try {
    const unchecked = whyUnchecked(options.check, source);
    const task = { model: source.model, recipe, samples, engine, shards, unchecked };
    const rehearse = (on: PhaseClock) => {
      meter = new EngineMeter(() => on.phase ?? "");
      return rehearseRun(task, on, meter, watch);
    };
    const first = await rehearse(new PhaseClock(options.onProgress));
    const { model, report, chosen, trials } = first;
    // What follows the first trial does the same again, and the program has warmed up for it.
    const isBrief = (first.timing.elapsedMs.refine ?? 0) < briefWalkMs;
    const again = trials.fewest > 0 && isBrief ? await rehearse(new PhaseClock(undefined)) : first;
    await engine.close();
    const clock = new PhaseClock(options.onProgress);
    clock.enter("measure", 0);
    const indices = samplesToMeasure(samples, recipe);
    const [measuredMs, turnsMs]: number[][] = [[], []];
    const small = { model, path: output ?? "the quantized model" };
    if (!unchecked) {
      await measure(source, small, samples, indices.slice(0, measuredSamples), {
        threads,
        signal,
        turns: measuredTurns,
        onSample: () => measuredMs.push(performance.now()),
        onTurn: () => turnsMs.push(performance.now()),
      });
    }
    const { mostHeldBytes, mostFileBytes } = meter;
    const timed = { samples: chosen.run, measuredMs, turnsMs };
    const cold = { ...first.timing, ...timed, elapsedMs: { ...first.timing.elapsedMs, ...clock.finish() } };
    const warm = again === first ? cold : { ...again.timing, ...timed };
    const run = { samples: chosen.all, measured: indices.length, turns: latencyTurns, trials };
    const ratio = chosen.all / chosen.run;
    const bytes = sizeOfModelFile(model, placeOfTensors(source, options.externalData));
    const spilledBytes = Math.max(0, Math.round(mostHeldBytes * ratio) - memory);
    return {
      samples: chosen.all,
      samplesRun: chosen.run,
      blocks: report.blocks,
      layers: report.layers.length,
      skipped: report.skipped.length,
      elapsedMs: estimatePhases(cold, run, warm),
      trials: { fewest: trials.fewest, most: trials.most, eachMs: trials.most > 0 ? trialMs(warm, trials) : 0 },
      memoryBytes: watch.samples.length > 0 ? peakBytes(watch.samples, ratio, memory) : undefined,
      // In the end the runtime has both models beside each other.
      diskBytes: Math.max(mostFileBytes + spilledBytes, source.bytes + bytes),
      bytes,
      sourceBytes: source.bytes,
      sizeRatio: bytes / source.bytes,
      warnings: report.warnings,
    };
  } catch (error) {
    throw withPlace(error, { file: basename(path) });
  } finally {
    watch.stop();
    await engine.close();
  }
}

/** One run over a few samples: what it leads to, and what it took. */
async function rehearseRun(
  task: Omit<QuantizeTask, "rehearsal" | "store" | "onProgress">,
  clock: PhaseClock,
  meter: EngineMeter,
  watch: MemoryWatch,
) {
  const solving = new SolveClock(watch.look);
  let chosen = { all: 0, run: 0 };
  let trials: TrialCounts = { fewest: 0, most: 0, fitted: 0, held: 0 };
  const rehearsal = {
    samplesToRun(all: number, batchSize: number) {
      chosen = { all, run: Math.min(all, Math.max(fewestBatches * batchSize, fewestSamples)) };
      return chosen.run;
    },
    noteTrials: (counts: TrialCounts) => (trials = counts),
    replaceSteps: solving.replaceSteps,
  };
  const engine = meter.meter(task.engine);
  const whole = { ...task, engine, store: new ScratchTensors(), onProgress: clock.enter, rehearsal };
  const { model, report } = await quantizeModel(whole);
  const timing = { elapsedMs: clock.finish(), passes: meter.passes, skippedMs: solving.skippedMs };
  return { model, report, chosen, trials, timing };
}
