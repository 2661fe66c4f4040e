import type { Section } from "../blocks/sections.js";
import type { Graph } from "../graph/graph.js";
import { intAttribute, isOperator } from "../graph/node.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { elementCount } from "../tensor/shape.js";
import { integerValues } from "../tensor/tensor.js";

/** The token that is picked from the output of the last block, as class tokens are. */
export function headTokenOf(graph: Graph, types: ValueTypes, sections: readonly Section[]): number | undefined {
  const last = sections.at(-1);
  if (last === undefined) return undefined;
  const behind = new Set([last.exit]);
  for (const node of graph.nodes) {
    if (!node.inputs.some((input) => behind.has(input))) continue;
    const [data, index] = node.inputs;
    if (isOperator(node, "Gather") && intAttribute(node, "axis", 0) === 1 && shapeOf(types, data)?.length === 3) {
      const places = graph.constant(index);
      const place = places && elementCount(places.shape) === 1 ? integerValues(places)[0] : -1;
      return place >= 0 ? place : undefined;
    }
    for (const output of node.outputs) behind.add(output);
  }
  return undefined;
}
