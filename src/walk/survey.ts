import type { OpenStep } from "../step/open-step.js";
import { type WalkInput, walk } from "./walk.js";

/**
 * Lets the steps that decide about all their sites together look at them, in a walk that changes nothing.
 *
 * @param input `batches` are read once where there is such a step
 * @returns the steps as they are to be taken
 */
export async function surveySites(input: WalkInput, steps: readonly OpenStep[]): Promise<readonly OpenStep[]> {
  const looks = steps.flatMap((step) => (step.survey ? [{ ...step, sites: step.survey.sites, unusable: [] }] : []));
  if (looks.length === 0) return steps;
  await walk(input, looks);
  return steps.map((step) => step.survey?.settle() ?? step);
}
