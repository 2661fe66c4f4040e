import { planCalibration } from "./calibration.js";
import { Checkpoint, type CheckpointOptions } from "./checkpoint/checkpoint.js";
import type { RunDescription } from "./checkpoint/run-description.js";
import { checkedSamples, checkRuns } from "./compare/check-runs.js";
import { chooseSamples } from "./data/choose.js";
import { fingerprintOf } from "./data/fingerprint.js";
import { type Prefetched, prefetch } from "./data/prefetch.js";
import type { Samples } from "./data/samples.js";
import type { Engine } from "./engine/engine.js";
import { type Model, withGraph } from "./graph/model.js";
import { dropBrokenTraining } from "./graph/training.js";
import { planLayers, planQuantization } from "./planning.js";
import { refuseOpenInShards } from "./preparation.js";
import { quantizeNetwork, type Rehearsal } from "./quantization.js";
import { lowerToIntegers } from "./quantize/lower.js";
import { describeLayers } from "./quantize/quantize.js";
import { defaultOf } from "./recipe/candidates.js";
import type { Recipe } from "./recipe/recipe.js";
import {
  type RunReport,
  recordActivations,
  recordLayers,
  recordSkipped,
  type TrialRecord,
} from "./report/run-report.js";
import { chooseRecipe, kindOf, planTrials, type RecipeChoice, type Trial } from "./search.js";
import { fingerprintOfModel } from "./shards/header.js";
import { refuseOtherSource } from "./shards/merge.js";
import type { ShardStatistics } from "./shards/statistics-file.js";
import type { TensorStore } from "./tensor/tensor-store.js";
import { version } from "./version.js";

/** What a run is told; the same task gives the same bytes. */
export interface QuantizeTask {
  readonly model: Model;
  readonly recipe: Recipe;
  readonly samples: Samples;
  readonly engine: Engine;
  /** What all shards of the samples have shown, as `measureShard` found it: the samples are not run for ranges again. */
  readonly shards?: readonly ShardStatistics[];
  /** Where finished blocks are kept; nowhere where it is not given. */
  readonly checkpoint?: CheckpointOptions;
  readonly onProgress?: OnProgress;
  /** Where codes of weights stay until the model is written; in memory where it is not given. */
  readonly store?: TensorStore;
  /** Why the result shall not be run, in words that follow "it was not run:"; it is where nothing is given. */
  readonly unchecked?: string;
  /** Makes the run a rehearsal; the model is of use for its size only. */
  readonly rehearsal?: Rehearsal;
}

export type Phase = "clean" | "calibrate" | "quantize" | "try" | "refine" | "check";

/** @param done share of the phase that is done, from 0 to 1 */
export type OnProgress = (phase: Phase, done: number) => void;

export interface QuantizeOutcome {
  readonly model: Model;
  readonly report: RunReport;
}

/**
 * Makes a model small: cleans it, finds ranges, rounds, compensates, checks that the result runs.
 *
 * @throws RecoupError `quantize/nothing-to-do` where no layer can be quantized, `data/empty`, `model/not-finite`, as
 * `refuseOpenInShards`, `refuseOtherSource`, `mergeShards` and `Checkpoint`, and what the engine throws
 */
export async function quantizeModel(task: QuantizeTask): Promise<QuantizeOutcome> {
  const { recipe, samples } = task;
  // Pictures are decoded while the runtime loads what the model consists of.
  const read = prefetch(samples.read(chooseSamples(samples.length, recipe.samples, recipe.seed)));
  try {
    return await quantizeSamples(task, read);
  } finally {
    read.close();
  }
}

async function quantizeSamples(task: QuantizeTask, read: Prefetched): Promise<QuantizeOutcome> {
  const { model: given, engine, samples, shards, rehearsal } = task;
  const { seed, samples: most } = task.recipe;
  const indices = chooseSamples(samples.length, most, seed);
  if (shards) {
    refuseOpenInShards(task.recipe);
    await refuseOtherSource(shards, { model: given, samples, seed, indices });
  }
  const fingerprint = await samples.fingerprint(indices);
  await Checkpoint.check(task.checkpoint, () => describeTask(task, fingerprint));
  const progress = task.onProgress ?? (() => {});
  const onCleaned = (done: number) => progress("clean", done);
  const planned = await planQuantization({ model: given, recipe: task.recipe, engine, onCleaned });
  const calibration = await planCalibration(task, planned);
  const { batchSize } = calibration;
  const run = rehearsal ? indices.slice(0, rehearsal.samplesToRun(indices.length, batchSize)) : indices;
  const describe = async () => ({ ...(await describeTask(task, fingerprint)), batchSize });
  const checkpoint = await Checkpoint.open(task.checkpoint, describe);

  const onTried = (done: number) => progress("try", done);
  const search = { engine, plan: planned, calibration, recipe: task.recipe, samples, checkpoint };
  const trialPlan = planTrials(task.recipe, kindOf(planned), indices);
  // In a rehearsal there is nothing to choose by.
  rehearsal?.noteTrials(trialPlan.counts);
  const { recipe, trials, taken }: RecipeChoice = rehearsal
    ? { recipe: defaultOf(task.recipe, kindOf(planned)), trials: [], taken: undefined }
    : await chooseRecipe({ ...search, onProgress: onTried });

  const {
    model: refinedModel,
    plan,
    quantized,
    refined,
  } = await quantizeNetwork({
    engine,
    recipe,
    plan: planLayers(planned, recipe),
    calibration,
    samples,
    run,
    count: indices.length,
    read,
    shards,
    ranges: (find) => checkpoint.ranges(find).finally(() => read.close()),
    walk: await checkpoint.walk(),
    rehearsal,
    store: task.store,
    onProgress: progress,
  });
  const { graph } = refinedModel;
  const lowered = lowerToIntegers(graph, plan.float.graph, plan.types);
  const finished = withMetadata(withGraph(refinedModel, lowered), recipe, fingerprint);
  const { model, warnings } = dropBrokenTraining(finished);
  progress("check", 0);
  const check =
    task.unchecked === undefined
      ? await checkRuns(engine, model, plan.float, samples, indices.slice(0, checkedSamples))
      : [`the small model was not run: ${task.unchecked}`];
  progress("check", 1);
  return {
    model,
    report: {
      schemaVersion: 1,
      version,
      recipe,
      data: { description: samples.description, samples: indices.length, available: samples.length, fingerprint },
      clean: plan.clean,
      blocks: refined.blocks.length,
      layers: recordLayers(
        describeLayers(plan.float.graph, graph, plan.choice, quantized.groups),
        refined.weightSqnrDb,
      ),
      skipped: recordSkipped(plan.choice),
      activations: recordActivations(refined.groups),
      trials: trials.map((trial) => recordTrial(trial, taken)),
      steps: [...plan.prepared, ...refined.steps],
      warnings: [
        ...plan.warnings,
        ...trialPlan.warnings,
        ...samples.warnings,
        ...checkpoint.warnings,
        ...warnings,
        ...check,
      ],
    },
  };
}

function recordTrial({ name, kl, sqnrDb, samples, gain }: Trial, taken: string | undefined): TrialRecord {
  return { name, kl, sqnrDb, held: samples.length, taken: name === taken, ...(gain && { gain }) };
}

/** What decides the bytes of the result, as far as it is known before any work. */
async function describeTask(
  { model, recipe, engine, shards }: QuantizeTask,
  data: string,
): Promise<Omit<RunDescription, "batchSize">> {
  const statistics = shards ? await fingerprintOf(shards.flatMap((shard) => [...shard.statistics.values()])) : null;
  return { version, model: await fingerprintOfModel(model), recipe, data, statistics, engine: engine.name };
}

/** What was done goes into the model itself, so that each number can be reproduced from it. */
function withMetadata(model: Model, recipe: Recipe, dataFingerprint: string): Model {
  const metadata = new Map(model.metadata);
  metadata.set("recoup.version", version);
  metadata.set("recoup.recipe", JSON.stringify(recipe));
  metadata.set("recoup.data", dataFingerprint);
  return { ...model, metadata };
}
