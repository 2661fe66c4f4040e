import type { Samples } from "../data/samples.js";
import type { Engine } from "../engine/engine.js";
import type { ValueName } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { collect } from "./collect.js";
import { type MinMax, RangeStatistic } from "./range.js";

/**
 * Smallest and largest value of each of some values, over some samples: one forward pass a sample.
 *
 * @param onSample called with the number of samples done
 * @throws RecoupError as `collect`
 */
export async function collectRanges(
  engine: Engine,
  model: Model,
  values: readonly ValueName[],
  samples: Samples,
  indices: readonly number[],
  onSample: (done: number) => void,
): Promise<ReadonlyMap<ValueName, MinMax>> {
  const statistics = values.map((value) => new RangeStatistic({ from: "float", value }));
  if (statistics.length === 0) return new Map();
  let done = 0;
  await collect(
    engine,
    model,
    statistics,
    (tap) => tap.value,
    samples.read(indices),
    () => onSample(++done),
  );
  return new Map(statistics.map((statistic, i) => [values[i], statistic.result()]));
}
