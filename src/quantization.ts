import { type Calibration, observeSamples, observeShards, planCalibration } from "./calibration.js";
import type { Sample, Samples } from "./data/samples.js";
import { inBatches } from "./engine/batch.js";
import type { Engine } from "./engine/engine.js";
import type { ValueName } from "./graph/graph.js";
import type { Model } from "./graph/model.js";
import type { Range } from "./math/distribution.js";
import { type Plan, preparePlan } from "./planning.js";
import { estimateRanges } from "./quantize/estimate-ranges.js";
import { type QuantizedModel, quantize, roundAhead } from "./quantize/quantize.js";
import type { Recipe } from "./recipe/recipe.js";
import { type Refined, refine, walkBatchSize } from "./refinement.js";
import type { ShardStatistics } from "./shards/statistics-file.js";
import type { OpenStep } from "./step/open-step.js";
import type { TensorStore } from "./tensor/tensor-store.js";
import type { WalkOptions } from "./walk/walk.js";

/** How often a network is quantized for trials, each time fitted on some samples and tried on others. */
export interface TrialCounts {
  /** Where nothing comes near what stands first. */
  readonly fewest: number;
  /** Where all are close, and what can take the place of steps that are left out is tried too. */
  readonly most: number;
  /** Samples that each is fitted on. */
  readonly fitted: number;
  /** Samples that each is tried on. */
  readonly held: number;
}

/** A run over the first batches only, so that what it takes tells what the whole run would take. */
export interface Rehearsal {
  /** @returns how many of the samples of a run to run */
  samplesToRun(count: number, batchSize: number): number;
  /** @param counts those of the whole run */
  noteTrials(counts: TrialCounts): void;
  /** As `RefineOptions` has it. */
  replaceSteps(steps: readonly OpenStep[]): readonly OpenStep[];
}

export type NetworkPhase = "calibrate" | "quantize" | "refine";

/** What quantizing a network with a recipe that leaves nothing open needs. */
export interface NetworkTask {
  readonly engine: Engine;
  readonly recipe: Recipe;
  /** Made for the recipe. */
  readonly plan: Plan;
  /** Of the network before it is prepared. */
  readonly calibration: Calibration;
  readonly samples: Samples;
  /** The samples that are run. */
  readonly run: readonly number[];
  /** How many samples the run stands for: more than it holds in a rehearsal. */
  readonly count: number;
  /** The samples as they are read already. */
  readonly read?: AsyncIterable<Sample>;
  readonly shards?: readonly ShardStatistics[];
  /** Gives ranges that were found before, or finds them. */
  readonly ranges?: (find: () => Promise<ReadonlyMap<ValueName, Range>>) => Promise<ReadonlyMap<ValueName, Range>>;
  readonly walk?: Pick<WalkOptions, "finished" | "onBlock">;
  readonly rehearsal?: Rehearsal;
  /** Where codes of weights stay until the model is written; in memory where it is not given. */
  readonly store?: TensorStore;
  readonly onProgress: (phase: NetworkPhase, done: number) => void;
}

export interface QuantizedNetwork {
  /** Activations and weights stand on grids; integer kernels come later. */
  readonly model: Model;
  /** With the float network as it was prepared. */
  readonly plan: Plan;
  readonly quantized: QuantizedModel;
  readonly refined: Refined;
}

/**
 * Prepares a network, finds its ranges, rounds it and takes it through the walk.
 *
 * @throws RecoupError as `prepareNetwork`, `observeSamples`, `mergeShards`, `quantize` and `refine`
 */
export async function quantizeNetwork(task: NetworkTask): Promise<QuantizedNetwork> {
  const { engine, recipe, samples, run, count, shards, rehearsal, onProgress } = task;
  const { batchSize } = task.calibration;
  const plan = await preparePlan(task, task.plan, run, batchSize);
  const calibration = await planCalibration({ ...task.calibration, recipe }, plan, { batchSize });
  const { sites } = calibration;
  const findRanges = async () => {
    const onCalibrated = (done: number) => onProgress("calibrate", done);
    const observation = shards
      ? await observeShards(shards, calibration, onCalibrated)
      : await observeSamples(calibration, run, onCalibrated, task.read && firstOf(task.read, run.length));
    onProgress("quantize", 0);
    return estimateRanges(plan.float.graph, sites, observation.result());
  };
  const [ranges, ahead] = await Promise.all([
    (task.ranges ?? ((find) => find()))(findRanges),
    // To load the network that is observed takes the runtime a while.
    roundAhead(plan.float, plan.choice, recipe.storage),
  ]);
  onProgress("quantize", 0);
  const rounding = { ahead, store: task.store, onProgress: (done: number) => onProgress("quantize", done) };
  const quantized = await quantize(plan.float, plan.choice, sites, ranges, recipe.storage, rounding);
  onProgress("quantize", 1);
  const size = walkBatchSize(count, batchSize);
  const batches = { [Symbol.asyncIterator]: () => inBatches(samples.read(run), size) };
  const batchCount = Math.ceil(count / size);
  const refined = await refine(
    { ...plan, engine, recipe, quantized, batches, batchCount, store: task.store },
    {
      ...task.walk,
      onProgress: (done) => onProgress("refine", done),
      rehearsal: rehearsal && { ...rehearsal, batches: Math.ceil(run.length / size) },
    },
  );
  return { model: refined.model, plan, quantized, refined };
}

async function* firstOf<Item>(items: AsyncIterable<Item>, count: number): AsyncIterable<Item> {
  let left = count;
  for await (const item of items) {
    yield item;
    left--;
    if (left === 0) return;
  }
}
