import type { Observation } from "../calibrate/observe.js";
import { RecoupError, withPlace } from "../errors.js";
import { describeData, describeForm, describeSource, type RunForm, type RunSource } from "./header.js";
import type { ShardStatistics } from "./statistics-file.js";

/**
 * Refuses statistics of another model or of other samples: what can be said before any work.
 *
 * @throws RecoupError `statistics/mismatch` where the shards are not each of them once, or are of another run than this, and
 * what reading the samples throws
 */
export async function refuseOtherSource(shards: readonly ShardStatistics[], run: RunSource): Promise<void> {
  const here = await describeSource(run);
  for (const shard of inOrder(shards)) {
    const { header } = shard;
    refuseOtherNumber(shard, "version", header.version, here.version);
    if (header.model !== here.model) throw mismatch(shard, "model", "is another one than in this run");
    refuseOtherNumber(shard, "seed", header.seed, here.seed);
    refuseOtherNumber(shard, "samples", header.samples, here.samples);
    if (header.available !== here.available) {
      const [there, now] = [header.available, here.available];
      throw mismatch(shard, "data", `held ${there} samples to choose from, in this run ${now}`);
    }
    await refuseOtherData(shard, run);
  }
}

/**
 * Takes in the statistics of all shards of a run, in the order of the samples: the same as if the run had seen all samples
 * itself.
 *
 * @param shards that `refuseOtherSource` has nothing against
 * @param observation of what the run looks at; nothing was taken in yet
 * @throws RecoupError `statistics/mismatch` where the shards are not each of them once, or run otherwise than this;
 * `statistics/malformed`
 */
export async function mergeShards(
  shards: readonly ShardStatistics[],
  run: RunForm,
  observation: Observation,
): Promise<void> {
  const ordered = inOrder(shards);
  const here = await describeForm(run);
  for (const shard of ordered) {
    const { header } = shard;
    if (header.prepared !== here.prepared) {
      throw mismatch(shard, "prepared", "steps that change the float network are others than in this run");
    }
    refuseOtherNumber(shard, "opset", header.opset, here.opset);
    refuseOtherStatistics(shard, observation);
    refuseOtherNumber(shard, "batchSize", header.batchSize, here.batchSize);
  }
  for (const { statistics, name } of ordered) {
    for (const statistic of observation.statistics) {
      try {
        statistic.mergeEncoded(statistics.get(statistic.key) as Uint8Array);
      } catch (error) {
        throw withPlace(error, { file: name, field: statistic.key });
      }
    }
  }
}

/**
 * Shards by their index: what can be said before anything is known of the run that they are for.
 *
 * @throws RecoupError `statistics/mismatch` where a shard is missing, given twice, or of another number of shards;
 * `usage/argument` for none
 */
export function inOrder(shards: readonly ShardStatistics[]): readonly ShardStatistics[] {
  const [first] = shards;
  if (first === undefined) throw new RecoupError("usage/argument", "no shard is given", { field: "--from-statistics" });
  const { count } = first.header.shard;
  const byIndex = new Map<number, ShardStatistics>();
  for (const shard of shards) {
    const { index } = shard.header.shard;
    const twin = byIndex.get(index);
    const is = `is ${partOf(shard)}`;
    if (shard.header.shard.count !== count) throw mismatch(shard, "shard", `${is}, ${nameOf(first)} ${partOf(first)}`);
    if (twin !== undefined) throw mismatch(shard, "shard", `${is}, and so is ${nameOf(twin)}`);
    byIndex.set(index, shard);
  }
  if (byIndex.size < count) {
    let missing = 1;
    while (byIndex.has(missing)) missing++;
    const others = count - byIndex.size > 1 ? `, one of ${count - byIndex.size} that are` : "";
    throw mismatch(first, "shard", `is ${partOf(first)}, but ${missing}/${count} is missing${others}`);
  }
  return [...byIndex.values()].sort((a, b) => a.header.shard.index - b.header.shard.index);
}

/** The runtime may round otherwise where other values are looked at, so more than needed is too much. */
function refuseOtherStatistics(shard: ShardStatistics, { statistics }: Observation): void {
  const keys = new Set(statistics.map(({ key }) => key));
  const missing = [...keys].find((key) => !shard.statistics.has(key));
  const other = [...shard.statistics.keys()].find((key) => !keys.has(key));
  if (missing === undefined && other === undefined) return;
  const what =
    missing !== undefined ? `lack "${missing}", which this run needs` : `hold "${other}", which this run does not need`;
  throw mismatch(shard, "statistics", `${what}: --range differs, or which activations are quantized`);
}

async function refuseOtherData(shard: ShardStatistics, run: RunSource): Promise<void> {
  const { data, shard: part, batchSize } = shard.header;
  const here = await describeData(run, batchSize, part);
  refuseOtherNumber(shard, "data.samples", data.samples, here.samples);
  if (data.fingerprint !== here.fingerprint) {
    throw mismatch(shard, "data", "are other samples than in this run, or samples that were prepared otherwise");
  }
}

function refuseOtherNumber(shard: ShardStatistics, field: string, there: number | string, here: number | string): void {
  if (there !== here) throw mismatch(shard, field, `is ${there}, in this run ${here}`);
}

function mismatch(shard: ShardStatistics, field: string, message: string): RecoupError {
  return new RecoupError("statistics/mismatch", message, { file: nameOf(shard), field });
}

function nameOf(shard: ShardStatistics): string {
  return shard.name ?? `shard ${partOf(shard)}`;
}

function partOf({ header: { shard } }: ShardStatistics): string {
  return `${shard.index}/${shard.count}`;
}
