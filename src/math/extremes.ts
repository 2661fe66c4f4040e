import type { Range } from "./distribution.js";

/**
 * The smallest and the largest of some values; not numbers where one of them is none. As `Math.min` and `Math.max`, but for any
 * number of values: arguments of a call lie on the stack, which some 120,000 of them overflow.
 */
export function extremesOf(values: ArrayLike<number>): Range {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  return { low, high };
}
