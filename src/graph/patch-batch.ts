import type { Graph, Node, ValueName } from "./graph.js";
import { applyPatch, type GraphPatch, joinPatches } from "./patch.js";

/**
 * Many small patches of one graph. Each application goes through the whole graph, so those that do not touch each other's
 * nodes are applied together: as many patches as there are nodes take linear time.
 */
export class PatchBatch {
  readonly #label: string;
  #graph: Graph;
  #pending: GraphPatch[] = [];
  readonly #touched = new Set<Node>();

  constructor(graph: Graph, label: string) {
    this.#graph = graph;
    this.#label = label;
  }

  /**
   * The graph to make the next patch of.
   *
   * @param values what the nodes compute that the patch will replace: earlier patches of them are applied first
   */
  graphFor(values: Iterable<ValueName>): Graph {
    for (const value of values) {
      const node = this.#graph.producer(value);
      if (node !== undefined && this.#touched.has(node)) return this.finish();
    }
    return this.#graph;
  }

  add(patch: GraphPatch): void {
    this.#pending.push(patch);
    for (const node of patch.remove ?? []) this.#touched.add(node);
  }

  /** The graph with all patches applied. */
  finish(): Graph {
    if (this.#pending.length > 0) this.#graph = applyPatch(this.#graph, joinPatches(this.#label, this.#pending));
    this.#pending = [];
    this.#touched.clear();
    return this.#graph;
  }
}
