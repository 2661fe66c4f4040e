import type { Model } from "../graph/model.js";
import { constantInputs } from "./constant-inputs.js";
import { foldBatchNormalization } from "./fold-batch-normalization.js";
import { foldConstants } from "./fold-constants.js";
import { foldReshapes } from "./fold-reshapes.js";
import { foldShapes } from "./fold-shapes.js";
import type { CleanContext, CleanPass, PassResult } from "./pass.js";
import { removeDeadNodes } from "./remove-dead-nodes.js";
import { removeIdentities } from "./remove-identities.js";
import { SharedTypes } from "./static-types.js";

/** The passes in the order they run in: each makes room for those after it. */
export const cleanPasses: readonly CleanPass[] = [
  constantInputs,
  foldConstants,
  foldShapes,
  foldReshapes,
  removeIdentities,
  foldBatchNormalization,
  removeDeadNodes,
];

/** A pass may make room for an earlier one; real models are done after three rounds. */
const largestRounds = 8;

/** What one pass did, over all rounds. */
export interface CleanStep {
  readonly name: string;
  readonly changed: readonly string[];
  /** What was left at the end. */
  readonly skipped: PassResult["skipped"];
}

export interface Cleaned {
  readonly model: Model;
  readonly steps: readonly CleanStep[];
}

/**
 * Runs all passes until none finds anything more to do. The outputs stay what they were, up to float rounding, and so do
 * their names and those of the inputs.
 *
 * @throws RecoupError `engine/cancelled`, `engine/unavailable`, and `onnx/…` where a tensor cannot be read; what the
 * runtime refuses is left as it is and said in the steps
 */
export async function cleanModel(model: Model, context: CleanContext): Promise<Cleaned> {
  const steps = new Map<string, CleanStep>(
    cleanPasses.map(({ name }) => [name, { name, changed: [], skipped: [] }] as const),
  );
  let current = model;
  for (let round = 0; round < largestRounds; round++) {
    const before = current;
    // What a pass changes may show more of other values: each round asks anew.
    const types = new SharedTypes((graph) => cleanPasses.flatMap((pass) => pass.typesNeeded?.(graph) ?? []));
    for (const pass of cleanPasses) {
      const result = await pass.run(current, { ...context, types });
      const changed = [...(steps.get(pass.name)?.changed ?? []), ...result.changed];
      steps.set(pass.name, { name: pass.name, changed, skipped: result.skipped });
      current = result.model;
    }
    if (current === before) break;
  }
  return { model: current, steps: [...steps.values()] };
}
