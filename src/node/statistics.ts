import { basename } from "node:path";
import { withPlace } from "../errors.js";
import { measureShard } from "../measure-shard.js";
import type { Phase } from "../pipeline.js";
import type { Shard } from "../shards/shard.js";
import { encodeStatistics, type ShardStatistics } from "../shards/statistics-file.js";
import { checkOutput, openDataFor, openModel } from "./model-source.js";
import { filesRead } from "./quantize.js";
import { openRecipe, type RecipeOptions } from "./recipe-file.js";
import { createRuntimeEngine } from "./runtime-engine.js";
import { writeWholeFile } from "./whole-file.js";

export interface StatisticsOptions extends RecipeOptions {
  /** Calibration samples: a folder of pictures, `.npy`, `.npz` or `.jsonl`. */
  readonly data: string;
  /** The part of the samples to run; default: all of them. */
  readonly shard?: Shard;
  /** Where to write the statistics; nothing is written where it is not given. */
  readonly output?: string;
  /** A Hugging Face `preprocessor_config.json`; default: the one beside the model. */
  readonly preprocess?: string;
  readonly threads?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (phase: Phase, done: number) => void;
}

export interface MeasuredStatistics {
  readonly statistics: ShardStatistics;
  /** Size as a file, whether it was written or not. */
  readonly bytes: number;
  readonly warnings: readonly string[];
}

/**
 * Runs a shard of the calibration samples through a model file, as `quantize` with the same options would, and keeps what
 * the choice of ranges needs. `quantize` takes the files of all shards as `fromStatistics`.
 *
 * @throws RecoupError for input that has to be changed (`exitCode` 2) and for work that broke off (`exitCode` 1); nothing
 * is written then
 */
export async function measureStatistics(path: string, options: StatisticsOptions): Promise<MeasuredStatistics> {
  const { output, shard = { index: 1, count: 1 }, onProgress } = options;
  const source = openModel(path);
  if (output !== undefined) checkOutput(output, [...source.files, ...filesRead(options)]);
  const recipe = openRecipe(options, source.model);
  const samples = await openDataFor(source, options.data, { preprocess: options.preprocess });
  const engine = createRuntimeEngine({ threads: options.threads, signal: options.signal });
  try {
    const task = { model: source.model, recipe, samples, engine, shard, onProgress };
    const { statistics, warnings } = await measureShard(task);
    const encoded = await encodeStatistics(statistics);
    if (output !== undefined) writeWholeFile(output, encoded);
    return { statistics, bytes: encoded.byteLength, warnings };
  } catch (error) {
    throw withPlace(error, { file: basename(path) });
  } finally {
    await engine.close();
  }
}
