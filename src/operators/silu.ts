import type { Graph, ValueName } from "../graph/graph.js";
import { isOperator, onlyConsumer } from "../graph/node.js";

/** Below this, x · sigmoid(x) stays within 0.003 of zero. */
export const siluFloor = -8;

/**
 * Whether a value is read by nothing but x · sigmoid(x) (SiLU, Swish): what lies far below zero then does not matter, and
 * a grid need not reach there.
 */
export function feedsOnlySilu(graph: Graph, value: ValueName): boolean {
  const readers = graph.consumers(value);
  const sigmoid = readers.find((reader) => isOperator(reader, "Sigmoid"));
  const product = readers.find((reader) => isOperator(reader, "Mul"));
  if (readers.length !== 2 || graph.isOutput(value) || sigmoid === undefined || product === undefined) return false;
  return onlyConsumer(graph, sigmoid.outputs[0]) === product;
}
