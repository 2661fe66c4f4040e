import type { NamedFeeds } from "../engine/batch.js";
import type { Engine } from "../engine/engine.js";
import type { ValueName } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { collect } from "./collect.js";
import { type MinMax, RangeStatistic } from "./range.js";

/**
 * Smallest and largest value of each of some values, over all batches: one forward pass each.
 *
 * @param onBatch called after each batch
 * @throws RecoupError as `collect`
 */
export async function collectRanges(
  engine: Engine,
  model: Model,
  values: readonly ValueName[],
  batches: AsyncIterable<NamedFeeds>,
  onBatch: () => void,
): Promise<ReadonlyMap<ValueName, MinMax>> {
  const statistics = values.map((value) => new RangeStatistic({ from: "float", value }));
  if (statistics.length === 0) return new Map();
  await collect(engine, model, statistics, (tap) => tap.value, batches, onBatch);
  return new Map(statistics.map((statistic, i) => [values[i], statistic.result()]));
}
