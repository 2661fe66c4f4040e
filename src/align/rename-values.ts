import { buildGraph, type Graph, type Node, type Value, type ValueName } from "../graph/graph.js";
import { collectNames, createNameSource } from "../graph/names.js";
import { type Renames, renameReads } from "../graph/rename.js";

export interface RenamedGraph {
  readonly graph: Graph;
  /** Gives the values of a graph that was changed since their own names again; nodes that nobody changed are the same objects. */
  restore(graph: Graph): Graph;
}

/**
 * The graph with other names for some values. Whatever else has one of the new names gets another one.
 *
 * @param renames inputs and outputs of the graph are not among them
 */
export function renameValues(graph: Graph, renames: Renames): RenamedGraph {
  const all = withMovedOthers(graph, renames);
  const originals = new Map<Node, Node>();
  const remarks = new Map<Value, Value>();
  const renamed = rewrite(graph, all, (node, changed) => void originals.set(changed, node), remarks);
  return {
    graph: renamed,
    restore(changed) {
      const back = new Map([...all].map(([from, to]) => [to, from] as const));
      const nodes = changed.nodes.map((node) => originals.get(node));
      const whole = rewriteBack(changed, withMovedOthers(changed, back), nodes);
      const valueInfo = new Map(
        [...changed.valueInfo.values()].map((value) => remarks.get(value) ?? value).map((value) => [value.name, value]),
      );
      return buildGraph({ ...whole, valueInfo });
    },
  };
}

/** The renames, and others for what has a name that is given away. */
function withMovedOthers(graph: Graph, renames: Renames): Renames {
  const names = new Set<string>();
  collectNames(graph, names);
  const source = createNameSource(graph);
  for (const to of renames.values()) source.fresh(to);
  const all = new Map([...renames].filter(([from, to]) => from !== to && names.has(from)));
  for (const to of [...all.values()]) {
    if (isValue(graph, to) && !all.has(to)) all.set(to, source.fresh(`${to}_other`));
  }
  return all;
}

function isValue(graph: Graph, name: ValueName): boolean {
  return graph.producer(name) !== undefined || graph.initializers.has(name) || graph.isInput(name);
}

function rewrite(
  graph: Graph,
  renames: Renames,
  onChanged: (node: Node, changed: Node) => void,
  remarks: Map<Value, Value>,
): Graph {
  const nodes = graph.nodes.map((node) => {
    const changed = renameNode(node, renames);
    if (changed !== node) onChanged(node, changed);
    return changed;
  });
  const valueInfo = new Map(
    [...graph.valueInfo].map(([name, value]) => {
      const to = renames.get(name);
      if (to === undefined) return [name, value] as const;
      const changed = { ...value, name: to };
      remarks.set(changed, value);
      return [to, changed] as const;
    }),
  );
  return buildGraph({ ...graph, nodes, initializers: renameKeys(graph, renames), valueInfo });
}

function rewriteBack(graph: Graph, renames: Renames, originals: readonly (Node | undefined)[]): Graph {
  const nodes = graph.nodes.map((node, i) => originals[i] ?? renameNode(node, renames));
  return buildGraph({ ...graph, nodes, initializers: renameKeys(graph, renames), valueInfo: new Map() });
}

function renameNode(node: Node, renames: Renames): Node {
  const read = renameReads(node, renames);
  if (!node.outputs.some((output) => renames.has(output))) return read;
  return { ...read, outputs: read.outputs.map((output) => renames.get(output) ?? output) };
}

function renameKeys({ initializers }: Graph, renames: Renames) {
  return new Map([...initializers].map(([name, tensor]) => [renames.get(name) ?? name, tensor] as const));
}
