import { describeValue } from "../data/fit.js";
import { RecoupError } from "../errors.js";
import { fedInputs } from "../graph/fed-inputs.js";
import type { Value, ValueName, ValueType } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import type { Alignment, Unaligned } from "./align.js";

/** @throws RecoupError `compensate/mismatch` for models of other inputs or outputs; place: the input, of another type or size */
export function refuseMismatch(float: Model, quantized: Model): void {
  const describe = (values: readonly Value[]) => values.map(({ name }) => name).join(", ") || "nothing";
  const isSame = (a: readonly Value[], b: readonly Value[]) =>
    a.length === b.length && a.every(({ name }) => b.some((other) => other.name === name));
  const [given, expected] = [fedInputs(quantized.graph), fedInputs(float.graph)];
  const refuse = (message: string) => new RecoupError("compensate/mismatch", message);
  if (!isSame(given, expected)) {
    throw refuse(`takes ${describe(given)} where the float model takes ${describe(expected)}`);
  }
  for (const input of given) {
    const wanted = expected.find(({ name }) => name === input.name);
    // Both get the same samples.
    if (wanted === undefined || canBeSame(input.type, wanted.type)) continue;
    const message = `takes ${describeValue(input)} where the float model takes ${describeValue(wanted)}`;
    throw new RecoupError("compensate/mismatch", message, { field: input.name });
  }
  const [outputs, others] = [quantized.graph.outputs, float.graph.outputs];
  if (!isSame(outputs, others)) {
    throw refuse(`returns ${describe(outputs)} where the float model returns ${describe(others)}`);
  }
}

/** Whether there is a tensor that is of both types: a size that one of them leaves open may be any. */
function canBeSame(a: ValueType, b: ValueType): boolean {
  if (a.kind !== "tensor" || b.kind !== "tensor") return a.kind === b.kind;
  if (a.elementType !== b.elementType) return false;
  const [sizes, others] = [a.shape, b.shape];
  if (sizes === undefined || others === undefined) return true;
  const isOpen = (size: unknown) => typeof size !== "number";
  return (
    sizes.length === others.length &&
    sizes.every((size, axis) => size === others[axis] || isOpen(size) || isOpen(others[axis]))
  );
}

/**
 * Refuses models of the same inputs and outputs that have nothing else in common.
 *
 * @param layers outputs of the layers of the float model
 * @throws RecoupError `compensate/mismatch`
 */
export function refuseStrangers({ values, unaligned }: Alignment, layers: readonly ValueName[]): void {
  if (layers.some((output) => values.has(output))) return;
  const why =
    layers.length === 0
      ? "the first model has no layer with a float weight: the float model comes first, then the quantized one"
      : firstReason(unaligned);
  throw new RecoupError("compensate/mismatch", `was not made from the float model, as far as can be seen: ${why}`);
}

function firstReason([first]: readonly Unaligned[]): string {
  return first === undefined ? "they share no value" : `${first.label}: ${first.reason}`;
}
