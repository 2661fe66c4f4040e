import { type Graph, type Node, subgraphsOf, type ValueName } from "../graph/graph.js";
import { intsAttribute, isOperator } from "../graph/node.js";
import { isFloatType } from "../tensor/element-type.js";

/** Where the weight of a node comes from. */
export interface FoundWeight {
  readonly weight: ValueName;
  readonly weightInput: number;
  readonly transpose?: Node;
}

/**
 * The float constant that a node reads at an input, directly or through a Transpose that exporters leave in when two
 * layers share a weight.
 */
export function findWeight(graph: Graph, node: Node, weightInput: number): FoundWeight | undefined {
  const value = node.inputs[weightInput];
  if (value === undefined || value === "") return undefined;
  if (isFloatConstant(graph, value)) return { weight: value, weightInput };
  const producer = graph.producer(value);
  if (!isOperator(producer, "Transpose") || !isFloatConstant(graph, producer.inputs[0])) return undefined;
  return { weight: producer.inputs[0], weightInput, transpose: producer };
}

/** Axis of the initializer that lies along an axis of what the node reads. */
export function sourceAxis(graph: Graph, found: FoundWeight, axis: number): number {
  return found.transpose ? permutationOf(found.transpose, rankOf(graph, found.weight))[axis] : axis;
}

/** Which axis of a Transpose's input becomes each axis of its output: the reverse where the node does not say. */
export function permutationOf(transpose: Node, rank: number): readonly number[] {
  return intsAttribute(transpose, "perm") ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
}

export function rankOf(graph: Graph, weight: ValueName): number {
  return graph.constant(weight)?.shape.length ?? 0;
}

/** A constant with at least one element and a float type; scalars and vectors are biases, scales, tables of positions. */
function isFloatConstant(graph: Graph, value: ValueName): boolean {
  const tensor = graph.constant(value);
  return tensor !== undefined && isFloatType(tensor.type) && tensor.shape.length >= 2 && !tensor.shape.includes(0);
}

/** Whether a subgraph of some node reads the weight: then its value must stay what it is. */
export function isCaptured(graph: Graph, weight: ValueName): boolean {
  return graph.consumers(weight).some((node) => subgraphsOf(node).some((body) => body.captures.has(weight)));
}
