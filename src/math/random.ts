/** A stream of pseudo-random numbers that is the same on every machine for the same seed. */
export interface Random {
  /** An integer in `[0, 2^32)`. */
  next(): number;
  /** An integer in `[0, limit)`, every one equally likely; `limit` is at most 2^32. */
  below(limit: number): number;
}

/** The four 32-bit words of xoshiro128**; not all zero. */
export type RandomState = readonly [number, number, number, number];

/** @param seed a safe integer */
export function createRandom(seed: number): Random {
  return randomFromState(expandSeed(seed));
}

/**
 * xoshiro128** 1.1.
 *
 * @see Blackman and Vigna, Scrambled Linear Pseudorandom Number Generators, arXiv:1805.01407;
 * https://prng.di.unimi.it/xoshiro128starstar.c
 */
export function randomFromState(state: RandomState): Random {
  const words = Uint32Array.from(state);
  const next = () => {
    const result = Math.imul(rotateLeft(Math.imul(words[1], 5), 7), 9) >>> 0;
    const shifted = words[1] << 9;
    words[2] ^= words[0];
    words[3] ^= words[1];
    words[1] ^= words[2];
    words[0] ^= words[3];
    words[2] ^= shifted;
    words[3] = rotateLeft(words[3], 11);
    return result;
  };
  const below = (limit: number) => {
    // The last, incomplete run of `limit` numbers would make the small ones more likely: draw again.
    const accepted = 2 ** 32 - (2 ** 32 % limit);
    let drawn = next();
    while (drawn >= accepted) drawn = next();
    return drawn % limit;
  };
  return { next, below };
}

/** `count` different integers in `[0, length)`, in the order they were drawn. */
export function drawWithoutRepetition(length: number, count: number, random: Random): number[] {
  const pool = Array.from({ length }, (_, index) => index);
  const drawn = Math.min(count, length);
  for (let i = 0; i < drawn; i++) {
    const other = i + random.below(length - i);
    [pool[i], pool[other]] = [pool[other], pool[i]];
  }
  return pool.slice(0, drawn);
}

/**
 * Two numbers of SplitMix64 as four words: seeds that differ in one bit give unrelated states, and never all zeros.
 *
 * @see https://prng.di.unimi.it/splitmix64.c
 */
export function expandSeed(seed: number): RandomState {
  const [first, second] = [1n, 2n].map((step) => {
    let z = BigInt.asUintN(64, BigInt(seed) + step * 0x9e3779b97f4a7c15n);
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return z ^ (z >> 31n);
  });
  return [low(first), high(first), low(second), high(second)];
}

function low(word: bigint): number {
  return Number(word & 0xffffffffn);
}

function high(word: bigint): number {
  return Number(word >> 32n);
}

function rotateLeft(word: number, count: number): number {
  return (word << count) | (word >>> (32 - count));
}
