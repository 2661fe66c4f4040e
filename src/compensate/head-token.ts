import type { Section } from "../blocks/sections.js";
import { nodesBetween } from "../graph/extract.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { intAttribute, isOperator } from "../graph/node.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { valuesBehind } from "../graph/values-behind.js";
import { elementCount } from "../tensor/shape.js";
import { integerValues } from "../tensor/tensor.js";

/** The one token that the head of a network reads, as a class token. */
export interface ReadToken {
  /** Its place among the tokens. */
  readonly index: number;
  /** Whether a value `[N, T, C]` holds the tokens of which it is one. */
  isAmong(value: ValueName): boolean;
}

/**
 * The token that a Gather picks from the output of the last block: all that the outputs of the network see of it. Where they
 * see other tokens too, there is none.
 */
export function findHeadToken(graph: Graph, types: ValueTypes, sections: readonly Section[]): ReadToken | undefined {
  const last = sections.at(-1);
  if (last === undefined) return undefined;
  const behind = valuesBehind(graph.nodes, [last.exit]);
  const gathers = graph.nodes.filter((node) => isOperator(node, "Gather") && behind.has(node.inputs[0]));
  const found = gathers.flatMap((pick) => {
    const index = placeOf(graph, types, pick);
    return index === undefined ? [] : [{ pick, index }];
  });
  if (found.length === 0) return undefined;
  const [{ pick, index }] = found;
  // Of a Shape nothing of the values gets through.
  const others = graph.nodes.filter((node) => node !== pick && !isOperator(node, "Shape"));
  const seen = valuesBehind(others, [last.exit]);
  if (graph.outputs.some(({ name }) => seen.has(name))) return undefined;
  const [data] = pick.inputs;
  const above = nodesBetween(graph, new Set(), [data]);
  const tokens = shapeOf(types, data)?.[1];
  return {
    index,
    isAmong(value) {
      const [first, second, ...rest] = shapeOf(types, value) ?? [];
      const producer = graph.producer(value);
      const isAbove = producer !== undefined && above.has(producer);
      return isAbove && rest.length === 1 && second === tokens && first !== tokens;
    },
  };
}

/** Which token a Gather picks, where it picks one that is known from values `[N, T, C]`. */
function placeOf(graph: Graph, types: ValueTypes, node: Node): number | undefined {
  const shape = shapeOf(types, node.inputs[0]);
  const indices = graph.constant(node.inputs[1]);
  if (shape?.length !== 3 || indices === undefined || elementCount(indices.shape) !== 1) return undefined;
  const axis = intAttribute(node, "axis", 0);
  if (axis !== 1 && axis !== -2) return undefined;
  const [index] = integerValues(indices);
  const count = shape[1];
  if (index >= 0) return index;
  return typeof count === "number" ? count + index : undefined;
}
