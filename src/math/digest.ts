/**
 * A short name for some numbers, by their exact values: equal numbers have equal names, and two lists that differ have the same
 * one by a chance of 2⁻⁶⁴ or so. Safe against accidents, not against people.
 *
 * @see Fowler, Noll and Vo's hash, in two turns that start and multiply differently
 */
export function digestOf(numbers: Float64Array): string {
  const words = new Uint32Array(new Float64Array(numbers).buffer);
  let [first, second] = [0x811c9dc5, 0x9747b28c];
  for (const word of words) {
    first = Math.imul(first ^ word, 0x01000193);
    first ^= first >>> 15;
    second = Math.imul(second ^ word, 0x85ebca6b);
    second ^= second >>> 13;
  }
  return [first, second, words.length].map((part) => (part >>> 0).toString(16)).join("-");
}
