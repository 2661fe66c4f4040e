import type { Feeds } from "../engine/engine.js";
import { withPlace } from "../errors.js";
import type { Value } from "../graph/graph.js";
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
  /** Everything that decides what the feeds are, in order. */
  contents(): AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>;
}

/** SHA-256, hexadecimal, of parts in order; where one part ends and the next begins makes a difference. */
export type HashParts = (parts: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>) => Promise<string>;

export interface SamplesOptions {
  /** Index of the right class of every sample, where it is known. */
  readonly labels?: readonly number[];
  readonly hash: HashParts;
  /** What errors name where they know no better. */
  readonly file?: string;
}

/** Samples of a source, checked against the model's inputs when they are read. */
export function samplesFrom(source: SampleSource, inputs: readonly Value[], options: SamplesOptions): Samples {
  const { labels, hash } = options;
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
  let fingerprint: Promise<string> | undefined;
  return {
    length: source.length,
    description: source.description,
    warnings: source.warnings,
    fingerprint: () => {
      fingerprint ??= hash(source.contents());
      return fingerprint;
    },
    read: (indices) => readAhead(indices, load),
  };
}
