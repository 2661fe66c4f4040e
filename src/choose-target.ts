import type { Checkpoint } from "./checkpoint/checkpoint.js";
import { compareOutputs } from "./compare/outputs.js";
import type { Samples } from "./data/samples.js";
import { inBatches } from "./engine/batch.js";
import { withSession } from "./engine/engine.js";
import { shapeOf } from "./graph/value-types.js";
import type { Rounding, RoundingTarget } from "./quantize/format.js";
import { type RefinementTask, refine, walkBatchSize } from "./refinement.js";
import { gptqObstacle } from "./round/gptq.js";

/** What a target of rounding led to on samples that were held back. */
export interface TargetTrial {
  readonly target: RoundingTarget;
  /** Mean divergence of the softmax of the first output from the float network's, in nats. */
  readonly kl: number;
  /** Signal to error of all outputs, in decibels. */
  readonly sqnrDb: number;
}

export interface TargetChoice {
  readonly target: RoundingTarget;
  /** None where there was nothing to choose, or too little to choose by. */
  readonly trials: readonly TargetTrial[];
}

/** Every so many-th sample is held back from a trial. */
const heldBack = 4;
/** Trials need not see all samples: these tell the targets apart. */
const mostFitted = 48;
const mostHeld = 24;
/** With fewer, chance would choose. */
const leastHeld = 4;

/** Whether a rounding asks for a trial of targets. */
export function leavesTargetOpen(rounding: Rounding | undefined): boolean {
  return rounding?.use === "gptq" && rounding.target === "auto";
}

/** How many targets are tried. */
export const triedTargets = 2;

/** The samples that a trial is fitted on and those that are held back from it; undefined where there are too few. */
export function trialSamples(
  indices: readonly number[],
): { readonly fitted: readonly number[]; readonly held: readonly number[] } | undefined {
  const fitted = indices.filter((_, i) => i % heldBack !== heldBack - 1).slice(0, mostFitted);
  const held = indices.filter((_, i) => i % heldBack === heldBack - 1).slice(0, mostHeld);
  return held.length < leastHeld ? undefined : { fitted, held };
}

/**
 * Finds the target for weights whose rounding leaves it open: refines with each on some of the samples and takes the one
 * with the smallest error at the outputs on others. For classifiers, with outputs of up to two axes, that is the
 * divergence.
 *
 * @param checkpoint where trials and their blocks are kept
 * @param onProgress called with the share that is done, from 0 to 1
 * @throws RecoupError as `refine`, and as `Checkpoint.trials`
 */
export async function chooseTarget(
  task: Omit<RefinementTask, "target" | "batches" | "batchCount">,
  samples: Samples,
  indices: readonly number[],
  batchSize: number,
  checkpoint: Checkpoint,
  onProgress: (done: number) => void,
): Promise<TargetChoice> {
  const { engine, float, types, choice, quantized } = task;
  const isOpen = quantized.unrounded.some((weight) => {
    return leavesTargetOpen(weight.format.rounding) && gptqObstacle(float.graph, types, weight) === undefined;
  });
  const isQuantized = choice.layers.some(({ activation }) => activation !== "float");
  const candidates: readonly [RoundingTarget, RoundingTarget] = [isQuantized ? "unquantized" : "same", "float"];
  const chosen = trialSamples(indices);
  if (!isOpen || chosen === undefined) return { target: candidates[0], trials: [] };
  const { fitted, held } = chosen;
  onProgress(0);
  const size = walkBatchSize(fitted.length, batchSize);
  const batchCount = Math.ceil(fitted.length / size);
  const tryTarget = async (target: RoundingTarget, i: number): Promise<TargetTrial> => {
    const batches = inBatches(samples.read(fitted), size);
    const { model } = await refine(
      { ...task, batches, batchCount, target },
      {
        ...(await checkpoint.walk(target)),
        onProgress: (done) => onProgress((i + done) / candidates.length),
      },
    );
    const { kl, sqnrDb } = await withSession(engine, float, { mode: "exact" }, (reference) =>
      withSession(engine, model, { mode: "exact" }, (rounded) =>
        compareOutputs(reference, rounded, samples.read(held)),
      ),
    );
    return { target, kl, sqnrDb };
  };
  const trials = await checkpoint.trials(async () => {
    const done: TargetTrial[] = [];
    for (const [i, target] of candidates.entries()) done.push(await tryTarget(target, i));
    return done;
  });
  const rank = shapeOf(types, float.graph.outputs[0]?.name ?? "")?.length ?? 0;
  // The softmax of a single value is one, whatever the value.
  const isClassifier = rank <= 2 && trials.some(({ kl }) => kl > 0);
  const errorOf = ({ kl, sqnrDb }: TargetTrial) => (isClassifier ? kl : -sqnrDb);
  const best = trials.reduce((a, b) => (errorOf(b) < errorOf(a) || Number.isNaN(errorOf(a)) ? b : a));
  return { target: best.target, trials };
}
