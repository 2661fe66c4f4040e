import type { Graph, Node } from "../graph/graph.js";
import { isOperator, onlyConsumer } from "../graph/node.js";
import type { ValueTypes } from "../graph/value-types.js";
import { type Block, findBlocks } from "./blocks.js";

/**
 * Blocks for the given layers. A layer stays together with the Add of its bias and with its activation function, since
 * what compensates the layer is judged behind them.
 */
export function findLayerBlocks(graph: Graph, types: ValueTypes, layers: readonly Node[]): readonly Block[] {
  const inseparable = new Set<string>();
  for (const layer of layers) {
    let value = layer.outputs[0];
    for (
      let next = onlyConsumer(graph, value);
      isOperator(next, "Add", "Relu", "Clip");
      next = onlyConsumer(graph, value)
    ) {
      const isBias = isOperator(next, "Add") && next.inputs.some((input) => graph.constant(input) !== undefined);
      if (isOperator(next, "Add") && !isBias) break;
      inseparable.add(value);
      value = next.outputs[0];
    }
  }
  return findBlocks(graph, types, new Set(layers), inseparable);
}
