import { compareLatency, compareOutputs, type LatencyComparison, type OutputComparison } from "../compare/outputs.js";
import { chooseSamples } from "../data/choose.js";
import type { Sample, Samples } from "../data/samples.js";
import type { Recipe } from "../recipe/recipe.js";
import type { ModelSource } from "./model-source.js";
import type { RuntimeOptions } from "./runtime-engine.js";
import { type NamedModel, withBoth } from "./side-by-side.js";

/** What a run gained and what it cost, measured on calibration samples. */
export interface Measured {
  readonly latency: LatencyComparison;
  readonly output: OutputComparison;
}

export interface MeasureOptions extends RuntimeOptions {
  /** How often the two models take turns when they are timed. */
  readonly turns?: number;
  /** Called after each sample, with how many there were. */
  readonly onSample?: (count: number) => void;
  /** Called before the first turn and after each, with how many there were. */
  readonly onTurn?: (count: number) => void;
}

/** Enough samples for a figure, too few to cost time. */
const mostMeasured = 32;

/** The samples on which a result is held against the original. */
export function samplesToMeasure(samples: Samples, { samples: count, seed }: Recipe): readonly number[] {
  return chooseSamples(samples.length, Math.min(mostMeasured, count), seed);
}

/** Holds a small model against the original, each in a process of its own at the runtime's default options. */
export async function measure(
  source: ModelSource,
  small: NamedModel,
  samples: Samples,
  indices: readonly number[],
  { turns, onSample, onTurn, ...options }: MeasureOptions,
): Promise<Measured> {
  const taken: Sample[] = [];
  return withBoth(source, small, options, async (reference, session) => {
    const read = keep(samples.read(indices), taken);
    const output = await compareOutputs(reference, session, read, () => onSample?.(taken.length));
    return { output, latency: await compareLatency(reference, session, taken, { turns, onTurn }) };
  });
}

async function* keep(samples: AsyncIterable<Sample>, taken: Sample[]): AsyncIterable<Sample> {
  for await (const sample of samples) {
    taken.push(sample);
    yield sample;
  }
}
