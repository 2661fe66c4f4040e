import { RecoupError } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import { buildGraph, type Graph, type Node, type ValueName } from "./graph.js";
import { collectNames } from "./names.js";
import { labelOf } from "./node.js";
import { renameReads } from "./rename.js";

/**
 * The one way to change a graph. Values that keep their meaning keep their name: a node that takes over a value from a
 * removed one writes it under the same name.
 */
export interface GraphPatch {
  /** Who asked for the change, for the report. */
  readonly label: string;
  readonly remove?: readonly Node[];
  /** In any order: `apply` puts them before their first reader. */
  readonly add?: readonly Node[];
  /** Nodes that stay read the second value instead of the first. */
  readonly redirect?: ReadonlyMap<ValueName, ValueName>;
  /** Initializers to add, or to put in the place of those of the same name. */
  readonly initializers?: ReadonlyMap<ValueName, Tensor>;
}

/**
 * The graph with a patch applied. Initializers that lose their last reader by it go too.
 *
 * @throws RecoupError `patch/invalid` where the patch does not fit the graph: a node that is not there, a name that is
 * taken, a value left without a definition, a graph output redirected
 */
export function applyPatch(graph: Graph, patch: GraphPatch): Graph {
  const removed = new Set(patch.remove ?? []);
  const redirect = patch.redirect ?? new Map();
  const added = patch.add ?? [];
  checkPatch(graph, patch, removed);
  const kept = graph.nodes.filter((node) => !removed.delete(node));
  if (removed.size > 0) throw invalid(patch, "removes a node that is not in the graph", labelOf([...removed][0]));
  const nodes = [...kept.map((node) => renameReads(node, redirect)), ...added];
  const initializers = new Map([...graph.initializers, ...(patch.initializers ?? [])]);
  const keptValues = new Set([
    ...kept.flatMap((node) => node.outputs),
    ...graph.inputs.map((input) => input.name),
    ...[...graph.initializers.keys()].filter((name) => !patch.initializers?.has(name)),
  ]);
  const valueInfo = new Map([...graph.valueInfo].filter(([name]) => keptValues.has(name)));
  try {
    return dropUnread(graph, buildGraph({ ...graph, nodes, initializers, valueInfo }, graph.captures.size > 0));
  } catch (error) {
    if (!(error instanceof RecoupError)) throw error;
    throw invalid(patch, error.message, error.place.field, error);
  }
}

export function applyPatches(graph: Graph, patches: Iterable<GraphPatch>): Graph {
  let result = graph;
  for (const patch of patches) result = applyPatch(result, patch);
  return result;
}

/** Several patches that do not touch each other's nodes as one. */
export function joinPatches(label: string, patches: readonly GraphPatch[]): GraphPatch {
  return {
    label,
    remove: patches.flatMap((patch) => patch.remove ?? []),
    add: patches.flatMap((patch) => patch.add ?? []),
    redirect: new Map(patches.flatMap((patch) => [...(patch.redirect ?? [])])),
    initializers: new Map(patches.flatMap((patch) => [...(patch.initializers ?? [])])),
  };
}

function checkPatch(graph: Graph, patch: GraphPatch, removed: ReadonlySet<Node>): void {
  for (const value of patch.redirect?.keys() ?? []) {
    if (graph.isOutput(value)) throw invalid(patch, "redirects a value that leaves the graph", value);
  }
  const taken = new Set<string>();
  collectNames(graph, taken);
  const freed = new Set([...removed].flatMap((node) => [node.name, ...node.outputs]));
  for (const name of patch.initializers?.keys() ?? []) {
    if (taken.has(name) && !freed.has(name) && !graph.initializers.has(name)) {
      throw invalid(patch, "adds an initializer whose name is taken", name);
    }
  }
  for (const node of patch.add ?? []) {
    for (const output of node.outputs) {
      if (output !== "" && taken.has(output) && !freed.has(output) && !graph.isOutput(output)) {
        throw invalid(patch, "defines a value whose name is taken", output);
      }
    }
  }
}

/** Initializers that somebody read before and nobody reads now. Those nobody ever read are the user's own business. */
function dropUnread(before: Graph, after: Graph): Graph {
  const isRead = (graph: Graph, name: ValueName) => graph.consumers(name).length > 0 || graph.isOutput(name);
  const unread = [...after.initializers.keys()].filter(
    (name) => !isRead(after, name) && !after.isInput(name) && (isRead(before, name) || !before.initializers.has(name)),
  );
  if (unread.length === 0) return after;
  const initializers = new Map(after.initializers);
  const valueInfo = new Map(after.valueInfo);
  for (const name of unread) {
    initializers.delete(name);
    valueInfo.delete(name);
  }
  return buildGraph({ ...after, initializers, valueInfo }, after.captures.size > 0);
}

function invalid(patch: GraphPatch, message: string, field?: string, cause?: unknown): RecoupError {
  return new RecoupError("patch/invalid", `${patch.label}: ${message}`, { field }, { cause });
}
