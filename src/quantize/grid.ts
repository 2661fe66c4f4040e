import type { Range } from "../math/distribution.js";
import { clamp, roundHalfEven } from "../math/round.js";
import type { Levels } from "./estimators/estimator.js";
import type { Bits } from "./format.js";
import { codesInUse, type Spacing, topCode } from "./spacing.js";

/** real = (code - zeroPoint) · scale, code from 0 to 2^bits - 1. */
export interface ActivationGrid {
  readonly scale: number;
  readonly zeroPoint: number;
  readonly bits: Bits;
  /** Where levels are not equidistant: those of the codes 0 to 255 that are in use, ascending. Others become the nearest. */
  readonly codes?: readonly number[];
}

/** The levels that a grid holds. */
export function levelsOfGrid({ scale, zeroPoint, bits, codes }: ActivationGrid): Levels {
  if (codes === undefined) return { first: -zeroPoint * scale, step: scale, count: 2 ** bits };
  // The last code that becomes a level, and half a step beyond.
  const borders = codes.slice(1).map((code, i) => (Math.floor((codes[i] + code) / 2) + 0.5) * scale);
  return { values: codes.map((code) => code * scale), borders };
}

/** Below this a float32 division by the scale would overflow. */
const smallestScale = 2 ** -126;

/**
 * The unsigned grid that covers a range, with the zero point in the middle where `symmetric`; zero is always a code,
 * since padding and ReLU produce it. A grid that is not uniform covers what is above zero.
 */
export function chooseActivationGrid(
  range: Range,
  bits: Bits,
  symmetric: boolean,
  spacing: Spacing = "uniform",
): ActivationGrid {
  if (spacing !== "uniform") {
    const scale = usableScale(Math.max(range.high, 0) / topCode);
    return { scale, zeroPoint: 0, bits, codes: codesInUse(spacing, bits) };
  }
  const levels = 2 ** bits - 1;
  const low = Math.min(range.low, 0);
  const high = Math.max(range.high, 0);
  if (symmetric) {
    // One code is given up so that both sides have the same number of steps.
    const steps = 2 ** (bits - 1) - 1;
    return { scale: usableScale(Math.max(-low, high) / steps), zeroPoint: steps + 1, bits };
  }
  const scale = usableScale((high - low) / levels);
  return { scale, zeroPoint: clamp(roundHalfEven(-low / scale), 0, levels), bits };
}

/**
 * An 8-bit grid that the given one is a part of, for a value that is read at both precisions: rounding to the fine grid
 * and then to the coarse one gives the same codes as rounding to the coarse one at once.
 */
export function refineGrid(grid: ActivationGrid): ActivationGrid {
  if (grid.codes !== undefined) return { scale: grid.scale, zeroPoint: grid.zeroPoint, bits: 8 };
  const factor = Math.floor(255 / (2 ** grid.bits - 1));
  // An odd number of fine steps in a coarse one puts the middle of a coarse step between two fine codes.
  const odd = factor % 2 === 0 ? factor - 1 : factor;
  return { scale: Math.fround(grid.scale / odd), zeroPoint: grid.zeroPoint * odd, bits: 8 };
}

/** A positive float32 scale; 1 where everything is zero and any scale does. */
export function usableScale(scale: number): number {
  const rounded = Math.fround(scale);
  return rounded >= smallestScale && Number.isFinite(rounded) ? rounded : 1;
}
