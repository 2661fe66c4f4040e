import type { Feeds } from "../engine/engine.js";
import { withPlace } from "../errors.js";
import type { Value } from "../graph/graph.js";
import { fingerprintOf, type Parts } from "./fingerprint.js";
import { checkFeeds } from "./fit.js";
import { readAhead } from "./read-ahead.js";
import type { Samples } from "./samples.js";

/** Where samples come from, one at a time. `samplesFrom` makes of it what the rest of Recoup reads. */
export interface SampleSource {
  readonly length: number;
  /** As `Samples` has them. */
  readonly description: string;
  readonly warnings: readonly string[];
  /** What a person calls a sample. */
  idOf(index: number): string;
  /** @throws RecoupError `data/unreadable`, `data/mismatch` */
  load(index: number): Promise<Feeds>;
  /**
   * Everything that decides what the feeds of a sample are, but for its name.
   *
   * @throws RecoupError `data/unreadable`
   */
  contents(index: number): Parts;
}

export interface SamplesOptions {
  /** Index of the right class of every sample, where it is known. */
  readonly labels?: readonly number[];
  /** What errors name where they know no better. */
  readonly file?: string;
}

/** Samples of a source, checked against the model's inputs when they are read. */
export function samplesFrom(source: SampleSource, inputs: readonly Value[], options: SamplesOptions = {}): Samples {
  const { labels } = options;
  const load = async (index: number) => {
    if (!Number.isInteger(index) || index < 0 || index >= source.length) throw new RangeError(`no sample ${index}`);
    const id = source.idOf(index);
    try {
      const feeds = await source.load(index);
      checkFeeds(id, feeds, inputs);
      return labels ? { id, feeds, label: labels[index] } : { id, feeds };
    } catch (error) {
      throw withPlace(error, { file: options.file });
    }
  };
  async function* contents(indices: readonly number[]) {
    for (const index of indices) {
      yield source.idOf(index);
      yield* source.contents(index);
    }
  }
  return {
    length: source.length,
    description: source.description,
    warnings: source.warnings,
    fingerprint: (indices) => fingerprintOf(contents(indices)),
    read: (indices) => readAhead(indices, load),
  };
}
