import { fedInputs } from "../graph/fed-inputs.js";
import { buildGraph, type Graph, type ValueName } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { mapSubgraphs } from "../graph/subgraphs.js";

/** From this version of the file format on, an initializer that is also an input is a default that callers may override. */
export const firstVersionWithDefaults = 4;

export interface Unlisted {
  readonly model: Model;
  /** The initializers that are no longer inputs. */
  readonly dropped: readonly ValueName[];
}

/**
 * Files before version 4 list every initializer as a graph input: here it is a constant again, and the model says so by
 * its version. Newer models come back as they are.
 */
export function dropListedInitializers(model: Model): Unlisted {
  if (model.irVersion >= firstVersionWithDefaults) return { model, dropped: [] };
  const dropped = listedInitializers(model.graph);
  return { model: { ...withGraph(model, unlist(model.graph, false)), irVersion: firstVersionWithDefaults }, dropped };
}

export function listedInitializers(graph: Graph): readonly ValueName[] {
  return graph.inputs.map((input) => input.name).filter((name) => graph.initializers.has(name));
}

function unlist(graph: Graph, isNested: boolean): Graph {
  const inputs = fedInputs(graph);
  const nodes = graph.nodes.map((node) => mapSubgraphs(node, (body) => unlist(body, true)));
  const isSame = inputs.length === graph.inputs.length && nodes.every((node, i) => node === graph.nodes[i]);
  return isSame ? graph : buildGraph({ ...graph, inputs, nodes }, isNested);
}
