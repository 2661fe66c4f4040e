import type { NamedFeeds } from "../engine/batch.js";
import type { Engine } from "../engine/engine.js";
import type { ValueName } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import type { Detail, Observed } from "../math/distribution.js";
import { collect } from "./collect.js";
import { HistogramStatistic } from "./histogram.js";
import { MovingAverageStatistic } from "./moving-average.js";
import { RangeStatistic } from "./range.js";
import type { Statistic, Tap } from "./statistic.js";

/**
 * What is to be known of some values to choose their ranges, over all batches: one forward pass each.
 *
 * @param details what shall be seen of each value; for averages the batches are single samples
 * @param onBatch called after each batch
 * @throws RecoupError as `collect`
 */
export async function observe(
  engine: Engine,
  model: Model,
  details: ReadonlyMap<ValueName, Detail>,
  batches: AsyncIterable<NamedFeeds>,
  onBatch: () => void,
): Promise<ReadonlyMap<ValueName, Observed>> {
  const observers = [...details].map(
    ([value, detail]) => [value, observerOf({ from: "float", value }, detail)] as const,
  );
  if (observers.length === 0) return new Map();
  const statistics = observers.flatMap(([, { statistics }]) => statistics);
  await collect(engine, model, statistics, (tap) => tap.value, batches, onBatch);
  return new Map(observers.map(([value, { observed }]) => [value, observed()]));
}

interface Observer {
  readonly statistics: readonly Statistic<unknown>[];
  observed(): Observed;
}

function observerOf(tap: Tap, detail: Detail): Observer {
  const range = new RangeStatistic(tap);
  switch (detail) {
    case "extremes":
      return { statistics: [range], observed: () => ({ extremes: range.result() }) };
    case "averageExtremes": {
      const average = new MovingAverageStatistic(tap);
      const observed = (): Observed => ({ extremes: range.result(), averageExtremes: average.result() });
      return { statistics: [range, average], observed };
    }
    case "distribution": {
      const histogram = new HistogramStatistic(tap);
      const observed = (): Observed => ({ extremes: range.result(), distribution: histogram.result() });
      return { statistics: [range, histogram], observed };
    }
  }
}
