import { Observation, observe } from "./calibrate/observe.js";
import { chooseSamples } from "./data/choose.js";
import type { Sample, Samples } from "./data/samples.js";
import { chooseBatchSize, inBatches, type NamedFeeds } from "./engine/batch.js";
import type { Engine } from "./engine/engine.js";
import { RecoupError } from "./errors.js";
import type { ValueName } from "./graph/graph.js";
import { type Model, opsetOf } from "./graph/model.js";
import type { Detail } from "./math/distribution.js";
import { preparationsOf } from "./preparation.js";
import type { ActivationSite } from "./quantize/choose-activations.js";
import type { PlannedNetwork } from "./quantize/choose-layers.js";
import { neededDetails } from "./quantize/estimate-ranges.js";
import { activationSites } from "./quantize/quantize.js";
import type { Recipe } from "./recipe/recipe.js";
import type { CalibrationRun } from "./shards/header.js";
import { mergeShards } from "./shards/merge.js";
import type { ShardStatistics } from "./shards/statistics-file.js";

/** What is calibrated. */
export interface CalibrationTask {
  /** As it was given. */
  readonly model: Model;
  readonly recipe: Recipe;
  readonly samples: Samples;
  readonly engine: Engine;
}

/** What calibration looks at: which values, what of them, and on which samples. */
export interface Calibration extends CalibrationRun {
  readonly engine: Engine;
  readonly float: Model;
  readonly sites: readonly ActivationSite[];
  readonly details: ReadonlyMap<ValueName, Detail>;
}

/**
 * Decides what calibration looks at; for all shards of the samples it is the same.
 *
 * @param known what was found before, for a network with the same inputs and outputs
 * @throws RecoupError `data/empty`, and as `Samples.read` and `chooseBatchSize`
 */
export async function planCalibration(
  { model, recipe, samples, engine }: CalibrationTask,
  { float, types, choice }: PlannedNetwork,
  known: { readonly batchSize?: number } = {},
): Promise<Calibration> {
  const { seed } = recipe;
  const indices = chooseSamples(samples.length, recipe.samples, seed);
  if (indices.length === 0) throw new RecoupError("data/empty", "holds no samples");
  const sites = activationSites(float.graph, types, choice);
  const details = neededDetails(sites);
  // An average over the samples in their order needs them one by one.
  const isOrdered = [...details.values()].includes("averageExtremes");
  const chooseSize = async () => chooseBatchSize(engine, float, types, await take(samples, indices.slice(0, 2)));
  const batchSize = isOrdered ? 1 : (known.batchSize ?? (await chooseSize()));
  const prepared = preparationsOf(recipe).length > 0 ? float : undefined;
  return { model, opset: opsetOf(float), prepared, samples, seed, indices, batchSize, engine, float, sites, details };
}

/**
 * Runs samples and looks at their values.
 *
 * @param indices those of a shard, or all
 * @param onProgress called with the share that is done, from 0 to 1
 * @param read the samples of the indices
 * @throws RecoupError as `observe`
 */
export async function observeSamples(
  { engine, float, details, samples, batchSize }: Calibration,
  indices: readonly number[],
  onProgress: (done: number) => void,
  read: AsyncIterable<Sample> = samples.read(indices),
): Promise<Observation> {
  let done = 0;
  onProgress(0);
  return observe(engine, float, details, inBatches(read, batchSize), () => {
    done += batchSize;
    onProgress(Math.min(done / indices.length, 1));
  });
}

/**
 * Takes what all shards of the samples have shown, which then need not run.
 *
 * @throws RecoupError as `mergeShards`
 */
export async function observeShards(
  shards: readonly ShardStatistics[],
  calibration: Calibration,
  onProgress: (done: number) => void,
): Promise<Observation> {
  onProgress(0);
  const observation = new Observation(calibration.details);
  await mergeShards(shards, calibration, observation);
  onProgress(1);
  return observation;
}

async function take(samples: Samples, indices: readonly number[]): Promise<readonly NamedFeeds[]> {
  const taken: NamedFeeds[] = [];
  for await (const sample of samples.read(indices)) taken.push(sample);
  return taken;
}
