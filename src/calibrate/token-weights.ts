import type { ValueName } from "../graph/graph.js";
import { float32Tensor } from "../tensor/tensor.js";
import type { ProbeWriter } from "./probe-writer.js";

/** The token that the head of a network reads, which counts more than the others. */
export interface HeadToken {
  readonly index: number;
  /** So many times; as often as there are tokens, which is as much as all others together; or the root of that. */
  readonly weight: number | "count" | "root";
}

/**
 * How much each of some tokens counts: one, and more for the token of the head.
 *
 * @param places which token each of them is, int64
 * @param count of the tokens of a sample, one int64
 * @returns float32, in the shape of `places`
 */
export function writeTokenWeights(
  writer: ProbeWriter,
  { index, weight }: HeadToken,
  places: ValueName,
  count: ValueName,
): ValueName {
  const one = writer.constant(float32Tensor([], [1]));
  const isToken = writer.node("Equal", [places, writer.integers([index], [])]);
  if (typeof weight === "number") {
    return writer.node("Where", [isToken, writer.constant(float32Tensor([], [weight])), one]);
  }
  const number = writer.float32(count);
  return writer.node("Where", [isToken, weight === "root" ? writer.node("Sqrt", [number]) : number, one]);
}

/** 0, 1, 2 … @param count one int64 */
export function writePlaces(writer: ProbeWriter, count: ValueName): ValueName {
  return writer.node("Range", [writer.integers([0], []), count, writer.integers([1], [])]);
}

/** How many tokens a sample has: the axis before the last one. One int64. */
export function writeTokenCount(writer: ProbeWriter, value: ValueName, rank: number): ValueName {
  return writer.node("Gather", [writer.node("Shape", [value]), writer.integers([rank - 2], [])]);
}
