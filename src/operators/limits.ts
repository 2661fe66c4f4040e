import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";
import { float32Values } from "../tensor/tensor.js";

/** What lies between stays as it is, anything else becomes the nearer limit. Either may be infinite. */
export interface Limits {
  readonly low: number;
  readonly high: number;
}

/** Between which limits a Relu or Clip keeps its input; undefined for other nodes, and where they are computed. */
export function limitsOf(graph: Graph, node: Node): Limits | undefined {
  if (isOperator(node, "Relu")) return { low: 0, high: Number.POSITIVE_INFINITY };
  if (!isOperator(node, "Clip")) return undefined;
  const low = limitOf(graph, node.inputs[1], Number.NEGATIVE_INFINITY);
  const high = limitOf(graph, node.inputs[2], Number.POSITIVE_INFINITY);
  return low === undefined || high === undefined ? undefined : { low, high };
}

function limitOf(graph: Graph, input: ValueName | undefined, open: number): number | undefined {
  if (input === undefined || input === "") return open;
  const tensor = graph.constant(input);
  return tensor && float32Values(tensor)[0];
}
