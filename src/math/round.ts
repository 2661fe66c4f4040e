const withoutFractions = 1.5 * 2 ** 52;

/** Rounds to the nearest integer, ties to even, as ONNX's QuantizeLinear does. `Math.round` rounds ties up. */
export function roundHalfEven(value: number): number {
  // Beside it float64 has no place for fractions: adding it rounds, ties to even. No branch is guessed wrong.
  if (Math.abs(value) < 2 ** 51) return value + withoutFractions - withoutFractions;
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

export function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
