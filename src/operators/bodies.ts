import type { Graph, ValueName } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * A body of a node as if it stood by itself: constants are also those that it reads of the graph around it, and those of
 * its Constant nodes, which no pass turns into initializers inside bodies.
 */
export function inContext(body: Graph, outer: Graph): Graph {
  const constant = (value: ValueName) =>
    body.captures.has(value) ? outer.constant(value) : (body.constant(value) ?? constantOfNode(body, value));
  return { ...body, constant };
}

function constantOfNode(graph: Graph, value: ValueName): Tensor | undefined {
  const producer = graph.producer(value);
  const attribute = isOperator(producer, "Constant") ? producer.attributes.get("value") : undefined;
  return attribute?.kind === "tensor" ? attribute.value : undefined;
}
