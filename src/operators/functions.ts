import type { Node } from "../graph/graph.js";
import { functionOf, type LocalFunction, type Model } from "../graph/model.js";
import { nodesIn } from "../graph/subgraphs.js";

/**
 * The model's own functions in which some nodes stand, also where they stand in bodies or in functions that these call.
 *
 * @param isWanted which nodes
 */
export function functionsHolding(
  functions: Model["functions"],
  isWanted: (node: Node) => boolean,
): ReadonlySet<LocalFunction> {
  const callers = new Map<LocalFunction, LocalFunction[]>();
  const holding = new Set<LocalFunction>();
  for (const owner of functions.values()) {
    for (const node of nodesIn(owner.body)) {
      const called = functionOf(functions, node);
      if (called) listIn(callers, called).push(owner);
      else if (isWanted(node)) holding.add(owner);
    }
  }
  // Sets are gone through in the order of insertion, what is added on the way included.
  for (const found of holding) for (const caller of callers.get(found) ?? []) holding.add(caller);
  return holding;
}

function listIn<Key, Entry>(lists: Map<Key, Entry[]>, key: Key): Entry[] {
  const known = lists.get(key) ?? [];
  lists.set(key, known);
  return known;
}
