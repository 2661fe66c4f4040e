import type { Node, ValueName } from "../graph/graph.js";
import { labelOf } from "../graph/node.js";

/** Whether one of the patterns names a node: by its name or first output, its weight, or as `op:Conv` its operator. */
export function matchesNode(patterns: readonly string[], node: Node, weight: ValueName | undefined): boolean {
  return patterns.some((pattern) => {
    if (pattern.startsWith("op:")) return matchesText(pattern.slice(3), node.opType);
    return [labelOf(node), node.outputs[0], weight].some((name) => name !== undefined && matchesText(pattern, name));
  });
}

/** `*` stands for any text, slashes included (names of nodes are no paths); everything else for itself. Linear backtracking. */
export function matchesText(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let resume = 0;
  while (t < text.length) {
    if (p < pattern.length && pattern[p] === "*") {
      star = p++;
      resume = t;
    } else if (p < pattern.length && pattern[p] === text[t]) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++resume;
    } else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}
