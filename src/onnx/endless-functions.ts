import { RecoupError } from "../errors.js";
import { type Graph, subgraphsOf } from "../graph/graph.js";
import { functionKey, functionOf, type LocalFunction, type Model } from "../graph/model.js";
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
  for (const called of callsFirst(functions)) sizes.set(called, sizeOf(called.body, functions, sizes));
  const size = sizeOf(graph, functions, sizes);
  if (size <= mostNodes) return;
  const [largest] = [...sizes].sort(([, a], [, b]) => b - a)[0];
  throw new RecoupError("onnx/limit", `written out, all calls of functions would be more than ${mostNodes} nodes`, {
    field: keyOf(largest),
  });
}

/** Functions in such an order that each stands behind those it calls. Works without recursion: chains may be long. */
function callsFirst(functions: Model["functions"]): readonly LocalFunction[] {
  const sorted: LocalFunction[] = [];
  const state = new Map<LocalFunction, "open" | "done">();
  for (const root of functions.values()) {
    const stack = [root];
    while (stack.length > 0) {
      const current = stack[stack.length - 1];
      if (state.get(current) === "done") {
        stack.pop();
        continue;
      }
      state.set(current, "open");
      const waiting = callsOf(current.body, functions).filter((called) => state.get(called) !== "done");
      const looping = waiting.find((called) => state.get(called) === "open");
      if (looping) throw new RecoupError("graph/invalid", "is a function that calls itself", { field: keyOf(looping) });
      if (waiting.length === 0) {
        state.set(current, "done");
        sorted.push(current);
        stack.pop();
      } else stack.push(...waiting);
    }
  }
  return sorted;
}

/** Functions that a graph calls, those in bodies included, each once. */
function callsOf(graph: Graph, functions: Model["functions"]): readonly LocalFunction[] {
  const calls = new Set<LocalFunction>();
  for (const node of graph.nodes) {
    const called = functionOf(functions, node);
    if (called) calls.add(called);
    for (const body of subgraphsOf(node)) for (const inner of callsOf(body, functions)) calls.add(inner);
  }
  return [...calls];
}

/** Nodes of a graph with every call written out. */
function sizeOf(graph: Graph, functions: Model["functions"], sizes: ReadonlyMap<LocalFunction, number>): number {
  let size = 0;
  for (const node of graph.nodes) {
    const called = functionOf(functions, node);
    // A call counts too, or functions that only call each other would be nothing.
    size += 1 + (called === undefined ? 0 : (sizes.get(called) ?? 0));
    for (const body of subgraphsOf(node)) size += sizeOf(body, functions, sizes);
  }
  return size;
}

function keyOf({ domain, name, overload }: LocalFunction): string {
  return functionKey(domain, name, overload);
}
