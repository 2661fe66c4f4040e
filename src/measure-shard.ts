import { observeSamples, planCalibration } from "./calibration.js";
import { RecoupError } from "./errors.js";
import type { QuantizeTask } from "./pipeline.js";
import { planQuantization, preparePlan } from "./planning.js";
import { refuseOpenInShards } from "./preparation.js";
import { describeData, describeForm, describeSource } from "./shards/header.js";
import { checkShard, type Shard, samplesOfShard } from "./shards/shard.js";
import type { ShardStatistics } from "./shards/statistics-file.js";

/** What a run is told that looks at a part of the calibration samples. */
export interface ShardTask extends Omit<QuantizeTask, "shards"> {
  readonly shard: Shard;
}

export interface ShardOutcome {
  readonly statistics: ShardStatistics;
  /** What a user should know of the recipe and of the samples. */
  readonly warnings: readonly string[];
}

/**
 * Runs a part of the calibration samples and keeps what was seen. `quantizeModel` with the statistics of all shards gives
 * the same model as without.
 *
 * @throws RecoupError `usage/argument` for a shard that there is not, `quantize/nothing-to-do` also where all activations
 * stay in float, and as `refuseOpenInShards` and `quantizeModel`
 */
export async function measureShard(task: ShardTask): Promise<ShardOutcome> {
  const { shard, samples, onProgress } = task;
  checkShard(shard);
  refuseOpenInShards(task.recipe);
  const planned = await planQuantization({ ...task, onCleaned: (done) => onProgress?.("clean", done) });
  const first = await planCalibration(task, planned);
  // Steps that change the float network look at all samples: then every shard measures the same network.
  const plan = await preparePlan(task, planned, first.indices, first.batchSize);
  const calibration = plan === planned ? first : await planCalibration(task, plan);
  if (calibration.details.size === 0) {
    throw new RecoupError("quantize/nothing-to-do", "keeps all activations in float: there is nothing to measure");
  }
  const indices = samplesOfShard(calibration.indices, calibration.batchSize, shard);
  const run = { ...(await describeSource(calibration)), ...(await describeForm(calibration)) };
  const header = { ...run, shard, data: await describeData(calibration, calibration.batchSize, shard) };
  const observation = await observeSamples(calibration, indices, (done) => onProgress?.("calibrate", done));
  const warnings = [...plan.warnings, ...samples.warnings];
  return { statistics: { header, statistics: observation.encode() }, warnings };
}
