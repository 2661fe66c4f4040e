import { nodesBetween } from "../graph/extract.js";
import { buildGraph, type Graph, type ValueName } from "../graph/graph.js";
import { withGraph } from "../graph/model.js";
import { labelOf } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import type { CleanPass, PassResult } from "./pass.js";

/**
 * Takes away what no output depends on: nodes (the standard's operators have no side effects) and initializers that
 * nobody reads. Graph inputs stay, read or not, and so do their defaults: callers may feed them.
 */
export const removeDeadNodes: CleanPass = {
  name: "remove-dead-nodes",
  async run(model): Promise<PassResult> {
    const { graph } = model;
    const live = nodesBetween(
      graph,
      new Set(),
      graph.outputs.map((output) => output.name),
    );
    const dead = graph.nodes.filter((node) => !live.has(node));
    const alive = dead.length === 0 ? graph : applyPatch(graph, { label: removeDeadNodes.name, remove: dead });
    const unread = unreadInitializers(alive);
    // What only dead nodes read has gone with them.
    const gone = [...graph.initializers.keys()].filter((name) => !alive.initializers.has(name));
    const changed = [
      ...dead.map((node) => `${labelOf(node)}: ${node.opType} that no output depends on was removed`),
      ...[...gone, ...unread].map((name) => `${name}: initializer that nobody reads was removed`),
    ];
    if (changed.length === 0) return { model, changed, skipped: [] };
    return { model: withGraph(model, withoutInitializers(alive, unread)), changed, skipped: [] };
  },
};

function unreadInitializers(graph: Graph): readonly ValueName[] {
  return [...graph.initializers.keys()].filter(
    (name) => graph.consumers(name).length === 0 && !graph.isOutput(name) && !graph.isInput(name),
  );
}

function withoutInitializers(graph: Graph, names: readonly ValueName[]): Graph {
  if (names.length === 0) return graph;
  const initializers = new Map(graph.initializers);
  for (const name of names) initializers.delete(name);
  return buildGraph({ ...graph, initializers });
}
