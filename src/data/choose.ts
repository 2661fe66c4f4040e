import { createRandom, drawWithoutRepetition } from "../math/random.js";

/** Indices of the samples that methods learn from, and of those that judge what they learned. */
export interface SampleSplit {
  readonly calibration: readonly number[];
  readonly heldBack: readonly number[];
}

/** `count` of the indices `0 … length - 1`, ascending; all of them where there are no more. The same for the same seed. */
export function chooseSamples(length: number, count: number, seed: number): readonly number[] {
  return ascending(drawWithoutRepetition(length, count, createRandom(seed)));
}

/**
 * Splits indices by chance, each part in the order given. Where there are two or more, neither part is empty unless the
 * share is 0.
 *
 * @param share part of the indices that is held back, 0 … 1
 */
export function splitSamples(indices: readonly number[], share: number, seed: number): SampleSplit {
  const fewest = share > 0 && indices.length > 1 ? 1 : 0;
  const count = Math.min(Math.max(Math.round(indices.length * share), fewest), Math.max(indices.length - 1, 0));
  const heldBack = new Set(drawWithoutRepetition(indices.length, count, createRandom(seed)));
  return {
    calibration: indices.filter((_, position) => !heldBack.has(position)),
    heldBack: indices.filter((_, position) => heldBack.has(position)),
  };
}

function ascending(numbers: readonly number[]): readonly number[] {
  return [...numbers].sort((a, b) => a - b);
}
