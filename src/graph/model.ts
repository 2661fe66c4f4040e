import type { Attribute, Graph, Node, ValueName } from "./graph.js";

/** A graph and what a file says about it. */
export interface Model {
  readonly graph: Graph;
  readonly irVersion: number;
  /** Version of the operator set of each domain; the standard's own domain is "". */
  readonly opsets: ReadonlyMap<string, number>;
  readonly producerName: string;
  readonly producerVersion: string;
  readonly metadata: ReadonlyMap<string, string>;
  /** Model-local functions by `functionKey`; nodes that call one are opaque. */
  readonly functions: ReadonlyMap<string, LocalFunction>;
  /** How the model may be trained further. */
  readonly training: readonly TrainingInfo[];
  /** What the model was read from, for a writer that keeps what nobody changed; opaque here. */
  readonly origin?: object;
}

/** Networks that compute new weights: only looked at for the values of the model that they read and replace. */
export interface TrainingInfo {
  readonly reads: ReadonlySet<ValueName>;
  /** As in `Node`. */
  readonly origin?: object;
}

/** An operator that the model itself defines. */
export interface LocalFunction {
  readonly domain: string;
  readonly name: string;
  readonly overload: string;
  /** Attributes that a call may set, and the default of those that have one. */
  readonly attributes: ReadonlyMap<string, Attribute | undefined>;
  readonly opsets: ReadonlyMap<string, number>;
  /** Its nodes, from parameters to results; nothing outside is read. */
  readonly body: Graph;
  /** As in `Node`. */
  readonly origin?: object;
}

/** What a function is called by; the standard's domain has two names. */
export function functionKey({ domain, name, overload }: Pick<LocalFunction, "domain" | "name" | "overload">): string {
  const owner = domain === "ai.onnx" ? "" : domain;
  return `${owner}::${name}${overload === "" ? "" : `::${overload}`}`;
}

/** The function that a node calls; undefined for an operator. */
export function functionOf(
  functions: Model["functions"],
  { domain, opType, overload = "" }: Node,
): LocalFunction | undefined {
  return functions.get(functionKey({ domain, name: opType, overload }));
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
    functions: new Map(),
    training: [],
    ...changes,
  };
}
