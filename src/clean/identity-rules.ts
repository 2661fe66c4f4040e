import type { Dimension, Graph, Node, ValueName } from "../graph/graph.js";
import { intAttribute, intsAttribute, isOperator, isStandard } from "../graph/node.js";
import { elementTypeOf, shapeOf, type ValueTypes } from "../graph/value-types.js";
import { elementTypeOf as elementTypeOfCode } from "../tensor/element-code.js";
import { type ElementType, isFloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";

/** What a rule may look at. Types are only there for the values that `typesNeeded` asked for. */
export interface IdentityFacts {
  readonly graph: Graph;
  readonly opset: number;
  readonly types: ValueTypes;
}

/** Constants with more elements are not searched for a value other than 0 or 1. */
const largestNeutralConstant = 65536;

/** What an operand must be filled with to change nothing, and whether it may stand first. */
const neutral: Readonly<Record<string, { readonly value: 0 | 1; readonly eitherSide: boolean }>> = {
  Add: { value: 0, eitherSide: true },
  Sub: { value: 0, eitherSide: false },
  Mul: { value: 1, eitherSide: true },
  Div: { value: 1, eitherSide: false },
};

/** The input whose value the node's first output always has; undefined where it may differ. */
export function passedInput(node: Node, facts: IdentityFacts): ValueName | undefined {
  if (!isStandard(node)) return undefined;
  const { graph, types } = facts;
  const [input] = node.inputs;
  switch (node.opType) {
    case "Identity":
      return input;
    case "Dropout":
      return isInference(node, facts) ? input : undefined;
    case "Cast":
      return isSameType(elementTypeOf(types, input), elementTypeOfCode(intAttribute(node, "to", 0)))
        ? input
        : undefined;
    case "Transpose":
      return passedByTranspose(node, graph);
    case "Flatten":
    case "Reshape":
    case "Squeeze":
    case "Unsqueeze":
      return isSameLayout(shapeOf(types, input), shapeOf(types, node.outputs[0])) ? input : undefined;
    case "Pad":
      return isZeroPad(node, graph) ? input : undefined;
    case "Concat":
    case "Sum":
    case "Max":
    case "Min":
    case "Mean":
      return node.inputs.length === 1 ? input : undefined;
    default:
      return node.opType in neutral ? passedByArithmetic(node, facts) : undefined;
  }
}

/** Values whose types decide whether a node passes its input on. */
export function typesNeeded(node: Node, graph: Graph): readonly ValueName[] {
  if (isOperator(node, "Cast")) return [node.inputs[0]];
  if (isOperator(node, "Flatten", "Reshape", "Squeeze", "Unsqueeze")) return [node.inputs[0], node.outputs[0]];
  if (!isOperator(node, ...Object.keys(neutral))) return [];
  return neutralOperands(node, graph).map(({ other }) => other);
}

function isInference(node: Node, { graph, opset }: IdentityFacts): boolean {
  const [, mask] = node.outputs;
  if (mask !== undefined && mask !== "" && (graph.isOutput(mask) || graph.consumers(mask).length > 0)) return false;
  const mode = node.inputs[2] ?? "";
  if (opset < 12 || mode === "") return true;
  const tensor = graph.constant(mode);
  return tensor !== undefined && integerValues(tensor).every((value) => value === 0);
}

function isSameType(a: ElementType | undefined, b: ElementType | undefined): boolean {
  return a !== undefined && a === b;
}

/** A permutation that moves nothing, or one that takes back the permutation before it. */
function passedByTranspose(node: Node, graph: Graph): ValueName | undefined {
  const order = intsAttribute(node, "perm");
  if (order?.every((from, to) => from === to)) return node.inputs[0];
  const before = graph.producer(node.inputs[0]);
  if (!isOperator(before, "Transpose")) return undefined;
  const orderBefore = intsAttribute(before, "perm");
  // Without an order the axes are reversed; two reversals cancel at any rank.
  const rank = order?.length ?? orderBefore?.length ?? 0;
  const reversed = Array.from({ length: rank }, (_, i) => rank - 1 - i);
  const [first, second] = [orderBefore ?? reversed, order ?? reversed];
  return second.every((from, to) => first[from] === to) ? before.inputs[0] : undefined;
}

/**
 * Whether a reshape keeps the shape. One size may be unknown on both sides: the others being the same, so is it, since the
 * number of elements does not change.
 */
function isSameLayout(before: readonly Dimension[] | undefined, after: readonly Dimension[] | undefined): boolean {
  if (before === undefined || after === undefined || before.length !== after.length) return false;
  const isKnown = (axis: number) => typeof before[axis] === "number" && typeof after[axis] === "number";
  const unknown = before.filter((_, axis) => !isKnown(axis)).length;
  const isSame = before.every((size, axis) => !isKnown(axis) || size === after[axis]);
  return isSame && (unknown === 0 || (unknown === 1 && !before.includes(0)));
}

function isZeroPad(node: Node, graph: Graph): boolean {
  const tensor = node.inputs.length > 1 ? graph.constant(node.inputs[1]) : undefined;
  const widths = tensor ? integerValues(tensor) : intsAttribute(node, "pads");
  return widths?.every((width) => width === 0) ?? false;
}

function passedByArithmetic(node: Node, { graph, types }: IdentityFacts): ValueName | undefined {
  const found = neutralOperands(node, graph).find(({ constant, other }) => {
    const shape = shapeOf(types, other);
    return constant.shape.length === 0 || (shape !== undefined && keepsShape(constant.shape, shape));
  });
  return found?.other;
}

/** Operands that are filled with the value that changes nothing, and what stands on the other side. */
function neutralOperands(
  node: Node,
  graph: Graph,
): readonly { readonly constant: Tensor; readonly other: ValueName }[] {
  const { value, eitherSide } = neutral[node.opType];
  const sides = eitherSide ? [0, 1] : [1];
  return sides.flatMap((side) => {
    const constant = graph.constant(node.inputs[side]);
    return constant && isFilledWith(constant, value) ? [{ constant, other: node.inputs[1 - side] }] : [];
  });
}

function isFilledWith(tensor: Tensor, wanted: number): boolean {
  const count = elementCount(tensor.shape);
  if (count === 0 || count > largestNeutralConstant || !/^(u?int|b?float)(8|16|32|64)$/.test(tensor.type)) return false;
  const values: Iterable<number> = isFloatType(tensor.type) ? float32Values(tensor) : integerValues(tensor);
  for (const value of values) if (value !== wanted) return false;
  return true;
}

/** Whether broadcasting an operand against a value leaves the value's shape as it is, whatever its open sizes are. */
function keepsShape(operand: readonly number[], shape: readonly Dimension[]): boolean {
  const offset = shape.length - operand.length;
  return offset >= 0 && operand.every((size, axis) => size === 1 || size === shape[axis + offset]);
}
