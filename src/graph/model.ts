import type { Graph } from "./graph.js";

/** A graph and what a file says about it. */
export interface Model {
  readonly graph: Graph;
  readonly irVersion: number;
  /** Version of the operator set of each domain; the standard's own domain is "". */
  readonly opsets: ReadonlyMap<string, number>;
  readonly producerName: string;
  readonly producerVersion: string;
  readonly metadata: ReadonlyMap<string, string>;
  /** Model-local functions as `domain::name`; nodes that call one are opaque. */
  readonly functions: ReadonlySet<string>;
  /** What the model was read from, for a writer that keeps what nobody changed; opaque here. */
  readonly origin?: object;
}

/** The same model around a changed graph. */
export function withGraph(model: Model, graph: Graph): Model {
  return { ...model, graph };
}

/** Version of the standard's operator set. */
export function opsetOf(model: Model): number {
  return model.opsets.get("") ?? 1;
}

/** A model that never was a file: a piece of another one, or nodes made up for a computation. */
export function makeModel(
  graph: Graph,
  like: Pick<Model, "irVersion" | "opsets">,
  changes: Partial<Model> = {},
): Model {
  return {
    graph,
    irVersion: like.irVersion,
    opsets: like.opsets,
    producerName: "recoup",
    producerVersion: "",
    metadata: new Map(),
    functions: new Set(),
    ...changes,
  };
}
