/**
 * Distances in which to take values of a tensor where all would be too many: primes of which the size of an axis is hardly
 * ever a multiple, so that every channel and every column has its turn; each about twice the one before.
 */
export const strides: readonly number[] = [
  1, 11, 23, 47, 97, 193, 389, 769, 1543, 3079, 6151, 12_289, 24_593, 49_157, 98_317, 196_613, 393_241, 786_433,
];

/** The smallest stride that takes at most so many of some values. */
export function strideFor(count: number, most: number): number {
  return strides.find((stride) => count / stride <= most) ?? strides[strides.length - 1];
}
