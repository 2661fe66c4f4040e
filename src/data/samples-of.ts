import { fedInputs } from "../graph/fed-inputs.js";
import type { ValueName } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import type { Tensor } from "../tensor/tensor.js";
import { feedsSource } from "./array-source.js";
import { samplesFrom } from "./sample-source.js";
import type { Samples } from "./samples.js";

export interface SamplesOfOptions {
  /** Index of the right class of every sample, where it is known. */
  readonly labels?: readonly number[];
  /** One line for the report. */
  readonly description?: string;
}

/**
 * Samples that are in memory: `samplesOf(model, [{ x: float32Tensor([1, 3], [1, 2, 3]) }])`.
 *
 * @param samples a tensor for each input of the model, by name, with a batch dimension of 1; checked when they are read
 */
export function samplesOf(
  model: Model,
  samples: readonly Readonly<Record<ValueName, Tensor>>[],
  { labels, description = `${samples.length} samples` }: SamplesOfOptions = {},
): Samples {
  const feeds = samples.map((sample) => new Map(Object.entries(sample)));
  return samplesFrom(feedsSource(feeds, description), fedInputs(model.graph), { labels });
}
