import type { Engine } from "../engine/engine.js";
import type { Graph, ValueName } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import type { SharedTypes } from "./static-types.js";

/** What a pass may use besides the model. Operators are computed by the runtime, never by hand. */
export interface CleanContext {
  readonly engine: Engine;
  /** What passes before it have learnt of the values. */
  readonly types?: SharedTypes;
}

/** One rewrite that keeps every output of the model what it was, up to float rounding. */
export interface CleanPass {
  /** As the report writes it: "fold-batch-normalization". */
  readonly name: string;
  /** The values whose types and shapes it looks at, so that the runtime is asked once for all passes. */
  typesNeeded?(graph: Graph): readonly ValueName[];
  run(model: Model, context: CleanContext): Promise<PassResult>;
}

export interface PassResult {
  /** The same object where nothing was to be done. */
  readonly model: Model;
  /** What was done, a line each, naming the node. */
  readonly changed: readonly string[];
  /** What the pass is for but could not do, and why. */
  readonly skipped: readonly { readonly node: string; readonly reason: string }[];
}
