import { buildGraph, type Graph, type Value, type ValueName } from "./graph.js";
import { renameReads } from "./rename.js";

/**
 * Two graphs as one, for statistics that compare them: the first one's values get a prefix, the second one's keep their
 * names.
 *
 * @param shared inputs that both read from the same feed: they keep their name
 */
export function joinGraphs(first: Graph, prefix: string, second: Graph, shared: ReadonlySet<ValueName>): Graph {
  const renamed = prefixGraph(first, prefix, shared);
  const inputs = new Map<ValueName, Value>([...renamed.inputs, ...second.inputs].map((value) => [value.name, value]));
  return buildGraph({
    name: second.name,
    inputs: [...inputs.values()],
    outputs: [...renamed.outputs, ...second.outputs],
    nodes: [...renamed.nodes, ...second.nodes],
    initializers: new Map([...renamed.initializers, ...second.initializers]),
    valueInfo: new Map(),
  });
}

function prefixGraph(graph: Graph, prefix: string, kept: ReadonlySet<ValueName>): Graph {
  const names = [
    ...graph.inputs.map((input) => input.name),
    ...graph.initializers.keys(),
    ...graph.nodes.flatMap((node) => node.outputs),
  ];
  const renames = new Map(
    names.filter((name) => name !== "" && !kept.has(name)).map((name) => [name, prefix + name] as const),
  );
  const renamed = (name: ValueName) => renames.get(name) ?? name;
  const rename = (value: Value): Value => ({ ...value, name: renamed(value.name) });
  return buildGraph({
    name: graph.name,
    inputs: graph.inputs.map(rename),
    outputs: graph.outputs.map(rename),
    nodes: graph.nodes.map((node) => ({
      ...renameReads(node, renames),
      name: node.name === "" ? "" : prefix + node.name,
      outputs: node.outputs.map(renamed),
    })),
    initializers: new Map([...graph.initializers].map(([name, tensor]) => [renamed(name), tensor])),
    valueInfo: new Map(),
  });
}
