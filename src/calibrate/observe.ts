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
 * Looks at values, so that their ranges can be chosen, over all batches: one forward pass each.
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
): Promise<Observation> {
  const observation = new Observation(details);
  const { statistics } = observation;
  if (statistics.length > 0) await collect(engine, model, statistics, (tap) => tap.value, batches, onBatch);
  return observation;
}

/** What was seen of some values: the statistics from which their ranges are chosen. */
export class Observation {
  /** No two have the same key. */
  readonly statistics: readonly Statistic<unknown>[];
  readonly #observers: ReadonlyMap<ValueName, Observer>;

  /** Nothing was seen yet. */
  constructor(details: ReadonlyMap<ValueName, Detail>) {
    this.#observers = new Map(
      [...details].map(([value, detail]) => [value, observerOf({ from: "float", value }, detail)]),
    );
    this.statistics = [...this.#observers.values()].flatMap(({ statistics }) => statistics);
  }

  /** What the statistics have encoded, by their keys. */
  encode(): ReadonlyMap<string, Uint8Array> {
    return new Map(this.statistics.map((statistic) => [statistic.key, statistic.encode()]));
  }

  result(): ReadonlyMap<ValueName, Observed> {
    return new Map([...this.#observers].map(([value, { observed }]) => [value, observed()]));
  }
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
