import type { Tensor } from "../tensor/tensor.js";
import { buildGraph, type Graph, type Node, readsOf, type Value, type ValueName } from "./graph.js";

/**
 * The part of a graph that computes some values from others, as a graph of its own.
 *
 * @param inputs where to cut above, with their types; anything else the outputs depend on is taken along
 * @param outputs values of the graph; their declared type is unknown, which every runtime accepts
 */
export function extractGraph(graph: Graph, inputs: readonly Value[], outputs: readonly Value[]): Graph {
  const cut = new Set(inputs.map((input) => input.name));
  const needed = nodesBetween(
    graph,
    cut,
    outputs.map((output) => output.name),
  );
  const nodes = graph.nodes.filter((node) => needed.has(node));
  const read = new Set([...nodes.flatMap((node) => [...readsOf(node)]), ...outputs.map((output) => output.name)]);
  const initializers = new Map([...graph.initializers].filter(([name]) => read.has(name) && !cut.has(name)));
  const own = graph.inputs.filter((input) => read.has(input.name) && !cut.has(input.name));
  return buildGraph({
    name: graph.name,
    inputs: [...inputs.filter((input) => read.has(input.name)), ...own],
    outputs,
    nodes,
    initializers,
    valueInfo: new Map(),
  });
}

/** The nodes that lie on a way from the cut to one of the values, the cut's own producers excluded. */
export function nodesBetween(
  graph: Graph,
  cut: ReadonlySet<ValueName>,
  values: readonly ValueName[],
): ReadonlySet<Node> {
  const needed = new Set<Node>();
  const open = [...values];
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    const node = cut.has(value) ? undefined : graph.producer(value);
    if (node === undefined || needed.has(node)) continue;
    needed.add(node);
    for (const read of readsOf(node)) open.push(read);
  }
  return needed;
}

/**
 * What computes a value from some others alone: the nodes, in topological order, and the constants that they read.
 *
 * @returns undefined where it depends on anything else
 */
export function partBetween(
  graph: Graph,
  from: ReadonlySet<ValueName>,
  value: ValueName,
): { readonly nodes: readonly Node[]; readonly constants: ReadonlyMap<ValueName, Tensor> } | undefined {
  const needed = nodesBetween(graph, from, [value]);
  const nodes = graph.nodes.filter((node) => needed.has(node));
  const constants = new Map<ValueName, Tensor>();
  for (const name of new Set(nodes.flatMap((node) => [...readsOf(node)]))) {
    const tensor = graph.initializers.get(name);
    if (tensor !== undefined && !from.has(name)) constants.set(name, tensor);
    else if (!from.has(name) && graph.producer(name) === undefined) return undefined;
  }
  return nodes.length === 0 ? undefined : { nodes, constants };
}
