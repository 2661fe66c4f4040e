const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** The value of an IEEE 754 half-precision bit pattern. */
export function fromFloat16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The half-precision bit pattern nearest to a value, ties to even; beyond 65504 it becomes infinity. */
export function toFloat16(value: number): number {
  roundToOdd(value);
  const sign = (word[0] >>> 16) & 0x8000;
  const exponent = (word[0] >>> 23) & 0xff;
  let fraction = word[0] & 0x7fffff;
  if (exponent === 255) return sign | 0x7c00 | (fraction ? 0x200 : 0);
  const halfExponent = exponent - 112;
  if (halfExponent >= 31) return sign | 0x7c00;
  if (halfExponent > 0) {
    // A carry out of the fraction runs into the exponent, which is what rounding up to the next power of two means.
    return sign | roundShift((halfExponent << 23) | fraction, 13);
  }
  if (halfExponent < -10) return sign;
  fraction |= 0x800000;
  return sign | roundShift(fraction, 14 - halfExponent);
}

/** The value of a bfloat16 bit pattern: the upper half of a float32. */
export function fromBfloat16(bits: number): number {
  word[0] = bits << 16;
  return float[0];
}

/** The bfloat16 bit pattern nearest to a value, ties to even. */
export function toBfloat16(value: number): number {
  roundToOdd(value);
  if (Number.isNaN(value)) return (word[0] >>> 16) | 0x40;
  return roundShift(word[0], 16);
}

/**
 * Puts a value into `float`, and where it does not fit sets the last bit after rounding towards zero: a double is rounded
 * once, at the end, and not to float32 first.
 */
function roundToOdd(value: number): void {
  float[0] = value;
  if (float[0] === value || Number.isNaN(value)) return;
  if (Math.abs(float[0]) > Math.abs(value)) word[0]--;
  word[0] |= 1;
}

function roundShift(bits: number, shift: number): number {
  const kept = bits >>> shift;
  const rest = bits & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && kept & 1) ? kept + 1 : kept;
}
