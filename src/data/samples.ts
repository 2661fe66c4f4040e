import type { Feeds } from "../engine/engine.js";

/** One calibration or evaluation sample: what a model is fed, with a batch dimension of 1. */
export interface Sample {
  /** What a person calls it: a file name, or the index in an array. */
  readonly id: string;
  readonly feeds: Feeds;
  /** Index of the right class, where labels were given. */
  readonly label?: number;
}

/** A data set as models see it. Nothing is held in memory that the source does not hold itself. */
export interface Samples {
  readonly length: number;
  /** One line for the report: what the samples are and how they were prepared. */
  readonly description: string;
  /** What the user should know about them: assumptions made where nothing was said. */
  readonly warnings: readonly string[];
  /**
   * SHA-256, hexadecimal, of everything that decides what the feeds of the given samples are: contents, names and order.
   * Other samples are not looked at.
   *
   * @throws RecoupError `data/unreadable`, `data/not-finite` where a sample in memory holds what is not a number
   */
  fingerprint(indices: readonly number[]): Promise<string>;
  /**
   * The samples of the given indices, in that order, prepared ahead of whoever reads them.
   *
   * @throws RecoupError `data/unreadable`, `data/mismatch` where a sample does not fit the model's inputs,
   * `data/not-finite` where it holds what is not a number
   */
  read(indices: readonly number[]): AsyncIterable<Sample>;
}
