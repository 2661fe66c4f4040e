import { RecoupError } from "../errors.js";
import type { Graph } from "../graph/graph.js";
import { functionKey, functionOf, type LocalFunction, type Model } from "../graph/model.js";
import { needsFirst } from "../graph/needs-first.js";
import { nodesIn } from "../graph/subgraphs.js";
import { mostNodes } from "./limits.js";

/**
 * Refuses functions that call themselves, and calls that written out would be too many nodes: a runtime writes all of them
 * out when it loads a model, and forty functions that each call the next one twice keep it busy for ever.
 *
 * @throws RecoupError `graph/invalid` for a function that calls itself, also through others, `onnx/limit`
 */
export function refuseEndlessFunctions({ graph, functions }: Pick<Model, "graph" | "functions">): void {
  if (functions.size === 0) return;
  const sizes = new Map<LocalFunction, number>();
  const callsFirst = needsFirst(
    functions.values(),
    ({ body }) => callsOf(body, functions),
    (looping) => new RecoupError("graph/invalid", "is a function that calls itself", { field: functionKey(looping) }),
  );
  for (const called of callsFirst) sizes.set(called, sizeOf(called.body, functions, sizes));
  const size = sizeOf(graph, functions, sizes);
  if (size <= mostNodes) return;
  const [largest] = [...sizes].sort(([, a], [, b]) => b - a)[0];
  throw new RecoupError("onnx/limit", `written out, all calls of functions would be more than ${mostNodes} nodes`, {
    field: functionKey(largest),
  });
}

/** Functions that a graph calls, those in bodies included, each once. */
function callsOf(graph: Graph, functions: Model["functions"]): readonly LocalFunction[] {
  const calls = new Set<LocalFunction>();
  for (const node of nodesIn(graph)) {
    const called = functionOf(functions, node);
    if (called) calls.add(called);
  }
  return [...calls];
}

/** Nodes of a graph with every call written out. */
function sizeOf(graph: Graph, functions: Model["functions"], sizes: ReadonlyMap<LocalFunction, number>): number {
  let size = 0;
  for (const node of nodesIn(graph)) {
    const called = functionOf(functions, node);
    // A call counts too, or functions that only call each other would be nothing.
    size += 1 + (called === undefined ? 0 : (sizes.get(called) ?? 0));
  }
  return size;
}
