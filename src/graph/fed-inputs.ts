import type { Graph, Value } from "./graph.js";

/** What a caller has to feed: initializers that are listed as inputs have values already. */
export function fedInputs(graph: Graph): readonly Value[] {
  return graph.inputs.filter((input) => !graph.initializers.has(input.name));
}
