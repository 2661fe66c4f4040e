/** With fewer values than this, counting digits costs more than comparing. */
const fewest = 512;

/** Digits of 11 bits: three passes over the 32 bits of a number, with tables that fit into the nearest cache. */
const digit = 2048;

/**
 * Sorts numbers in place, ascending, -0 before 0, as `values.sort()` does, several times as fast: weights are sorted row by
 * row, millions of values each.
 *
 * @param values none of them NaN
 * @returns the same array
 */
export function sortFloats(values: Float32Array): Float32Array {
  if (values.length < fewest) return values.sort();
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const [keys, other] = [new Uint32Array(bits.length), new Uint32Array(bits.length)];
  const [low, middle, high] = [new Uint32Array(digit), new Uint32Array(digit), new Uint32Array(digit)];
  for (let i = 0; i < bits.length; i++) {
    // Of negative numbers all bits are turned, of others the sign: then their order is that of whole numbers.
    const key = (bits[i] ^ ((bits[i] >> 31) | 0x80000000)) >>> 0;
    keys[i] = key;
    low[key & 2047]++;
    middle[(key >>> 11) & 2047]++;
    high[key >>> 22]++;
  }
  for (const counts of [low, middle, high]) toStarts(counts);
  for (let i = 0; i < keys.length; i++) other[low[keys[i] & 2047]++] = keys[i];
  for (let i = 0; i < keys.length; i++) keys[middle[(other[i] >>> 11) & 2047]++] = other[i];
  for (let i = 0; i < keys.length; i++) other[high[keys[i] >>> 22]++] = keys[i];
  for (let i = 0; i < keys.length; i++) bits[i] = other[i] >> 31 === 0 ? ~other[i] : other[i] ^ 0x80000000;
  return values;
}

/** From how many there are of each digit to where the first of them goes. */
function toStarts(counts: Uint32Array): void {
  let start = 0;
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i];
    counts[i] = start;
    start += count;
  }
}
