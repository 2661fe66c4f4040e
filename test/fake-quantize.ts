import type { WeightFormat } from "../src/quantize/format.js";
import { float32Tensor, float32Values, type Tensor } from "../src/tensor/tensor.js";

/**
 * What a weight becomes when it is put on its grid: the slow, obvious version, element by element.
 *
 * @param smallestScales a lower bound for the scale of each output channel
 */
export function fakeQuantize(
  weight: Tensor,
  channelAxis: number,
  format: WeightFormat,
  smallestScales?: readonly number[],
): Tensor {
  const values = float32Values(weight);
  const limits = new Map<string, { low: number; high: number; bound: number }>();
  const keys = Array.from(values, (_, i) => keyOf(indicesOf(i, weight.shape), weight.shape, channelAxis, format));
  keys.forEach((key, i) => {
    const known = limits.get(key) ?? { low: 0, high: 0, bound: 0 };
    const channel = indicesOf(i, weight.shape)[channelAxis];
    limits.set(key, {
      low: Math.min(known.low, values[i]),
      high: Math.max(known.high, values[i]),
      bound: Math.max(known.bound, smallestScales?.[channel] ?? 0),
    });
  });
  const rounded = keys.map((key, i) => {
    const { low, high, bound } = limits.get(key)!;
    return fakeQuantizeOne(values[i], low, high, bound, format);
  });
  return float32Tensor(weight.shape, rounded);
}

/** Which elements share a scale: all, those of an output channel, or runs of the channel's elements. */
function keyOf(
  indices: readonly number[],
  shape: readonly number[],
  channelAxis: number,
  format: WeightFormat,
): string {
  if (format.granularity.kind === "per-tensor") return "all";
  const channel = indices[channelAxis];
  if (format.granularity.kind === "per-channel") return `${channel}`;
  let column = 0;
  for (const [axis, index] of indices.entries()) if (axis !== channelAxis) column = column * shape[axis] + index;
  return `${channel} ${Math.floor(column / format.granularity.groupSize)}`;
}

function fakeQuantizeOne(value: number, low: number, high: number, bound: number, format: WeightFormat): number {
  if (format.symmetric) {
    const top = 2 ** (format.bits - 1) - 1;
    const scale = Math.fround(Math.max(-low / top, high / top, bound));
    if (scale < 2 ** -126) return 0;
    return Math.fround(limit(nearest(value / scale), -top, top) * scale);
  }
  const steps = 2 ** format.bits - 1;
  const scale = Math.fround(Math.max((high - low) / steps, bound));
  if (scale < 2 ** -126) return 0;
  const zero = nearest(-low / scale);
  return Math.fround((limit(nearest(value / scale) + zero, 0, steps) - zero) * scale);
}

function indicesOf(position: number, shape: readonly number[]): readonly number[] {
  const indices: number[] = [];
  for (let axis = shape.length - 1, rest = position; axis >= 0; axis--) {
    indices.unshift(rest % shape[axis]);
    rest = Math.floor(rest / shape[axis]);
  }
  return indices;
}

/** Ties go to the even neighbour. */
export function nearest(value: number): number {
  const [below, above] = [Math.floor(value), Math.ceil(value)];
  if (value - below === above - value) return below % 2 === 0 ? below : above;
  return value - below < above - value ? below : above;
}

function limit(value: number, low: number, high: number): number {
  return value < low ? low : Math.min(value, high);
}
