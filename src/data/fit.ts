import type { Feeds } from "../engine/engine.js";
import { RecoupError } from "../errors.js";
import type { Dimension, Value } from "../graph/graph.js";
import { findNotANumber } from "../tensor/not-a-number.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * Checks that a sample feeds every input of a model with what it takes. Sizes that the model leaves open fit anything.
 *
 * @param id what the sample is called in the message
 * @throws RecoupError `data/mismatch`, place: the input
 */
export function checkFeeds(id: string, feeds: Feeds, inputs: readonly Value[]): void {
  checkNames(id, [...feeds.keys()], inputs);
  for (const input of inputs) {
    const tensor = feeds.get(input.name);
    if (tensor && !fits(tensor, input)) {
      const message = `sample ${id} is ${describeTensor(tensor)}, the model takes ${describeValue(input)}`;
      throw new RecoupError("data/mismatch", message, { field: input.name });
    }
  }
}

/**
 * Checks that no float input of a sample holds what is not a number: it would make every output so, and errors would name what
 * they met first. Infinity is left alone, since attention masks hold it.
 *
 * @param id what the sample is called in the message
 * @throws RecoupError `data/not-finite`, place: the input
 */
export function refuseNotANumber(id: string, feeds: Feeds): void {
  for (const [name, tensor] of feeds) {
    const at = findNotANumber(tensor);
    if (at >= 0) throw new RecoupError("data/not-finite", `sample ${id} holds NaN at element ${at}`, { field: name });
  }
}

/**
 * Checks that the names given are those of the model's inputs.
 *
 * @throws RecoupError `data/mismatch`, place: the input
 */
export function checkNames(id: string, given: readonly string[], inputs: readonly Value[]): void {
  const known = inputs.map((input) => input.name);
  const missing = known.find((name) => !given.includes(name));
  if (missing !== undefined) {
    throw new RecoupError("data/mismatch", `sample ${id} has nothing for this input of the model`, { field: missing });
  }
  const extra = given.find((name) => !known.includes(name));
  if (extra !== undefined) {
    const message = `sample ${id} has this, the model's inputs are ${known.join(", ")}`;
    throw new RecoupError("data/mismatch", message, { field: extra });
  }
}

/** `float32[1,3,224,224]`, with `?` for a size that nothing is known of. */
export function describeValue(value: Value): string {
  if (value.type.kind !== "tensor") return "no tensor";
  return `${value.type.elementType}${value.type.shape ? `[${value.type.shape.map((size) => size ?? "?")}]` : ""}`;
}

function describeTensor(tensor: Tensor): string {
  return `${tensor.type}[${tensor.shape}]`;
}

function fits(tensor: Tensor, { type }: Value): boolean {
  if (type.kind !== "tensor" || tensor.type !== type.elementType) return false;
  return type.shape === undefined || shapeFits(tensor.shape, type.shape);
}

function shapeFits(shape: readonly number[], taken: readonly Dimension[]): boolean {
  return shape.length === taken.length && taken.every((size, axis) => typeof size !== "number" || size === shape[axis]);
}
