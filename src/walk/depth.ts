import { type Node, readsOf, type ValueName } from "../graph/graph.js";

/**
 * Sorts sites by how many other sites lie above them on the longest way through a block: those of one depth do not see
 * each other, so they are measured in one run.
 *
 * @param nodes in topological order
 */
export function groupByDepth<Site extends { readonly value: ValueName }>(
  nodes: readonly Node[],
  sites: readonly Site[],
): readonly (readonly Site[])[] {
  const siteValues = new Set(sites.map((site) => site.value));
  const depths = new Map<ValueName, number>();
  for (const node of nodes) {
    const above = Math.max(
      0,
      ...[...readsOf(node)].map((value) => (depths.get(value) ?? 0) + (siteValues.has(value) ? 1 : 0)),
    );
    for (const output of node.outputs) depths.set(output, above);
  }
  const groups: Site[][] = [];
  for (const site of sites) {
    const depth = depths.get(site.value) ?? 0;
    groups[depth] ??= [];
    groups[depth].push(site);
  }
  return groups.filter((group) => group !== undefined);
}
