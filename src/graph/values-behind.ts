import { type Node, readsOf, type ValueName } from "./graph.js";

/**
 * Some values and all that is computed from any of them.
 *
 * @param nodes in topological order
 */
export function valuesBehind(nodes: readonly Node[], values: Iterable<ValueName>): ReadonlySet<ValueName> {
  const behind = new Set(values);
  for (const node of nodes) {
    if (![...readsOf(node)].some((read) => behind.has(read))) continue;
    for (const output of node.outputs) behind.add(output);
  }
  return behind;
}
