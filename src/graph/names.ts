import { type Graph, subgraphsOf } from "./graph.js";

/** Gives names that are free in a whole model, and remembers what it gave. */
export interface NameSource {
  /** `base` itself where it is free, else `base_2`, `base_3` … */
  fresh(base: string): string;
}

export function createNameSource(graph: Graph): NameSource {
  // An empty name means "not given".
  const taken = new Set([""]);
  collectNames(graph, taken);
  // Where to go on counting, so that many names of one base take linear time.
  const next = new Map<string, number>();
  return {
    fresh(base) {
      let name = base;
      let i = next.get(base) ?? 2;
      for (; taken.has(name); i++) name = `${base}_${i}`;
      next.set(base, i);
      taken.add(name);
      return name;
    },
  };
}

/** Names of values and of nodes, those inside subgraphs included: an inner name must not hide an outer one. */
export function collectNames(graph: Graph, into: Set<string>): void {
  for (const value of [...graph.inputs, ...graph.outputs]) into.add(value.name);
  for (const value of graph.initializers.keys()) into.add(value);
  for (const node of graph.nodes) {
    into.add(node.name);
    for (const output of node.outputs) into.add(output);
    for (const body of subgraphsOf(node)) collectNames(body, into);
  }
}

/** A prefix that no name of some graphs starts with: the wished one, or underscores before it. */
export function freePrefix(graphs: readonly Graph[], wished: string): string {
  const taken = new Set<string>();
  for (const graph of graphs) collectNames(graph, taken);
  const names = [...taken];
  let prefix = wished;
  while (names.some((name) => name.startsWith(prefix))) prefix = `_${prefix}`;
  return prefix;
}
