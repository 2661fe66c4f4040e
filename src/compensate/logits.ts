import type { Graph, Node, ValueName } from "../graph/graph.js";
import { intAttribute, isOperator } from "../graph/node.js";
import { elementTypeOf, shapeOf, type ValueTypes } from "../graph/value-types.js";
import { type FloatType, isFloatType } from "../tensor/element-type.js";
import { resolveAxis } from "../tensor/shape.js";
import type { BiasPlace } from "./fold-bias.js";

/** An output with a row of classes for each sample, or for each place of a sample. */
export interface Logits {
  /** The logits, which the softmax of the output reads where it has one. */
  readonly value: ValueName;
  readonly elementType: FloatType;
  readonly rank: number;
  /** Axis of the classes, counted from the start; neighbours in memory lie along it. */
  readonly classAxis: number;
  readonly classes: number;
  /** Whether a sample has one row of classes; else the classes lie along the last axis. */
  readonly isPerSample: boolean;
}

/**
 * The logits behind an output of a network, or why it has none.
 *
 * @param areRowsWanted whether an output with several rows of classes a sample counts too, each row for itself
 */
export function findLogits(
  graph: Graph,
  types: ValueTypes,
  output: ValueName,
  areRowsWanted: boolean,
): Logits | { readonly reason: string } {
  const last = behindReshapes(graph, output);
  if (last && isOperator(last, "Sigmoid"))
    return { reason: "is a sigmoid: its values are no distribution over classes" };
  const softmax = isOperator(last, "Softmax", "LogSoftmax") ? last : undefined;
  const value = softmax?.inputs[0] ?? output;
  const elementType = elementTypeOf(types, value);
  const shape = shapeOf(types, value);
  if (elementType === undefined || shape === undefined) return { reason: "has an unknown type or rank" };
  if (!isFloatType(elementType)) return { reason: `is ${elementType}, no float type` };
  const rank = shape.length;
  const wide = shape.map((size, axis) => ({ size, axis })).filter(({ size, axis }) => axis > 0 && size !== 1);
  // Axes of one element move nothing in memory.
  const classAxis = wide.length === 1 ? wide[0].axis : rank - 1;
  const classes = shape[classAxis];
  if (rank < 2 || wide.length === 0) return { reason: "has no more than one value a sample" };
  if (typeof classes !== "number") return { reason: "has a number of classes that changes from sample to sample" };
  if (classes < 2) return { reason: "has no more than one value a row" };
  if (wide.length > 1 && !areRowsWanted) {
    return { reason: "has more than one row of values a sample: given as `output`, its last axis is taken as classes" };
  }
  if (softmax && resolveAxis(intAttribute(softmax, "axis", -1), rank) !== classAxis) {
    return { reason: "is a softmax along another axis" };
  }
  if (graph.producer(value) === undefined) return { reason: "is computed by no node" };
  return { value, elementType, rank, classAxis, classes, isPerSample: wide.length === 1 };
}

/**
 * The values on the way back from logits through nodes that keep a constant for each class what it is, from the nearest on:
 * to the output of the layer that computes them.
 */
export function wayToLayer(graph: Graph, types: ValueTypes, logits: Logits): readonly BiasPlace[] {
  const way: BiasPlace[] = [];
  const { elementType, classes } = logits;
  let node = logits.isPerSample ? graph.producer(logits.value) : undefined;
  while (isOperator(node, "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "GlobalAveragePool")) {
    const [value] = node.inputs;
    const shape = shapeOf(types, value);
    const wide = (shape ?? []).map((_, axis) => axis).filter((axis) => axis > 0 && shape?.[axis] !== 1);
    // The mean of a constant is the constant.
    const isPool = isOperator(node, "GlobalAveragePool");
    const axis = isPool ? 1 : wide[0];
    if (shape === undefined || shape[axis] !== classes || (wide.length !== 1 && !isPool)) break;
    way.push({ value, axisFromEnd: axis - shape.length, elementType });
    node = graph.producer(value);
  }
  return way;
}

/** The node that computes a value, but for what only gives it another shape or type. */
function behindReshapes(graph: Graph, value: ValueName): Node | undefined {
  let node = graph.producer(value);
  while (isOperator(node, "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze")) {
    const before = graph.producer(node.inputs[0]);
    if (before === undefined) break;
    node = before;
  }
  return node;
}
