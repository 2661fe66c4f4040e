import { buildGraph, type Graph, type Node, subgraphsOf, type ValueName } from "./graph.js";
import { mapSubgraphs } from "./subgraphs.js";

/** New names of values that a graph's nodes read. */
export type Renames = ReadonlyMap<ValueName, ValueName>;

/** The node reading renamed values, inside its subgraphs too; the node itself where it reads none of them. */
export function renameReads(node: Node, renames: Renames): Node {
  const bodies = subgraphsOf(node).some((body) => [...body.captures].some((value) => renames.has(value)));
  if (!bodies && !node.inputs.some((input) => renames.has(input))) return node;
  const renamed = { ...node, inputs: node.inputs.map((input) => renames.get(input) ?? input) };
  return bodies ? mapSubgraphs(renamed, (body) => renameCaptures(body, renames)) : renamed;
}

function renameCaptures(body: Graph, renames: Renames): Graph {
  const captured = new Map([...renames].filter(([from]) => body.captures.has(from)));
  if (captured.size === 0) return body;
  const outputs = body.outputs.map((output) => {
    const to = captured.get(output.name);
    return to === undefined ? output : { ...output, name: to };
  });
  return buildGraph({ ...body, outputs, nodes: body.nodes.map((node) => renameReads(node, captured)) }, true);
}
