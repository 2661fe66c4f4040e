import { buildGraph, type Value, type ValueName } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";

/** The model with some inner values as further outputs. Their types are left to the runtime. */
export function withTaps(model: Model, taps: readonly ValueName[]): Model {
  const added: Value[] = [...new Set(taps)]
    .filter((name) => !model.graph.isOutput(name))
    .map((name) => ({ name, type: { kind: "other" } }));
  if (added.length === 0) return model;
  return withGraph(model, buildGraph({ ...model.graph, outputs: [...model.graph.outputs, ...added] }));
}
