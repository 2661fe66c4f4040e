import { createRandom, drawWithoutRepetition } from "../math/random.js";

/** `count` of the indices `0 … length - 1`, ascending; all of them where there are no more. The same for the same seed. */
export function chooseSamples(length: number, count: number, seed: number): readonly number[] {
  return [...drawWithoutRepetition(length, count, createRandom(seed))].sort((a, b) => a - b);
}
