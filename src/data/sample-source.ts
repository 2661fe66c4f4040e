import type { Feeds } from "../engine/engine.js";
import { withPlace } from "../errors.js";
import type { Value } from "../graph/graph.js";
import { fingerprintOf, type Parts } from "./fingerprint.js";
import { checkFeeds, refuseNotANumber } from "./fit.js";
import { readAhead } from "./read-ahead.js";
import type { Samples } from "./samples.js";

/** Where samples come from, one at a time. `samplesFrom` makes of it what the rest of Recoup reads. */
export interface SampleSource {
  readonly length: number;
  /** As `Samples` has them. */
  readonly description: string;
  readonly warnings: readonly string[];
  /** Whether samples are in memory already: to load one takes nothing. */
  readonly isInMemory?: boolean;
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

/**
 * Samples of a source, checked against the model's inputs when they are read. Values that are not numbers are refused then too,
 * where samples are in memory as soon as their fingerprint is asked for: a run does that before any other work.
 */
export function samplesFrom(source: SampleSource, inputs: readonly Value[], options: SamplesOptions = {}): Samples {
  const { labels, file } = options;
  const checked = new Set<number>();
  const checkValues = (index: number, feeds: Feeds) => {
    if (checked.has(index)) return;
    refuseNotANumber(source.idOf(index), feeds);
    checked.add(index);
  };
  const load = async (index: number) => {
    if (!Number.isInteger(index) || index < 0 || index >= source.length) throw new RangeError(`no sample ${index}`);
    const id = source.idOf(index);
    try {
      const feeds = await source.load(index);
      checkFeeds(id, feeds, inputs);
      checkValues(index, feeds);
      return labels ? { id, feeds, label: labels[index] } : { id, feeds };
    } catch (error) {
      throw withPlace(error, { file });
    }
  };
  async function* contents(indices: readonly number[]) {
    for (const index of indices) {
      if (source.isInMemory) checkValues(index, await source.load(index));
      yield source.idOf(index);
      yield* source.contents(index);
    }
  }
  return {
    length: source.length,
    description: source.description,
    warnings: source.warnings,
    fingerprint: (indices) =>
      fingerprintOf(contents(indices)).catch((error: unknown) => {
        throw withPlace(error, { file });
      }),
    read: (indices) => readAhead(indices, load),
  };
}
