import type { Calibration } from "./calibration.js";
import type { Checkpoint } from "./checkpoint/checkpoint.js";
import { compareOutputs, type SampleComparison } from "./compare/outputs.js";
import type { Samples } from "./data/samples.js";
import { type Engine, withSession } from "./engine/engine.js";
import { shapeOf } from "./graph/value-types.js";
import { type Plan, planLayers } from "./planning.js";
import { quantizeNetwork } from "./quantization.js";
import { type Candidate, defaultOf, type NetworkKind, type Round, roundsOf } from "./recipe/candidates.js";
import type { Recipe } from "./recipe/recipe.js";
import type { ShardStatistics } from "./shards/statistics-file.js";

/** What a recipe led to on samples that were held back. */
export interface Trial {
  /** What was tried, in a few words. */
  readonly name: string;
  /** Mean divergence of the softmax of the first output from the float network's, in nats. */
  readonly kl: number;
  /** Signal to error of all outputs, in decibels. */
  readonly sqnrDb: number;
  /** Of each sample: its divergence, and the squared error of its outputs by their mean square over all samples. */
  readonly samples: readonly { readonly kl: number; readonly error: number }[];
}

export interface RecipeChoice {
  /** Nothing in it is left open. */
  readonly recipe: Recipe;
  /** In the order in which they were made; none where there was nothing to choose, or too little to choose by. */
  readonly trials: readonly Trial[];
  /** Name of the trial whose recipe was taken. */
  readonly taken: string | undefined;
}

/** Trials need not see all samples: these tell recipes apart. */
const mostFitted = 64;
const mostHeld = 64;
/** With fewer, chance would choose. */
const leastHeld = 4;
/** A gain has to be so many times its standard error over the samples, or what stands first stays. */
const leastCertainty = 1;

/** The samples that a trial is fitted on and those that are held back from it; undefined where there are too few. */
export function trialSamples(
  indices: readonly number[],
): { readonly fitted: readonly number[]; readonly held: readonly number[] } | undefined {
  const fitted = indices.filter((_, i) => i % 2 === 0).slice(0, mostFitted);
  const held = indices.filter((_, i) => i % 2 === 1).slice(0, mostHeld);
  return held.length < leastHeld ? undefined : { fitted, held };
}

/** How many recipes are tried at most. */
export function mostTrials(recipe: Recipe, kind: NetworkKind): number {
  const rounds = roundsOf(recipe, kind);
  const counts = rounds.map((round) => round.candidates(defaultOf(recipe, kind)).length);
  return counts.reduce((sum, count) => sum + count, 0);
}

export function kindOf({ choice }: Plan): NetworkKind {
  return {
    hasProducts: choice.products.length > 0,
    isQuantized: choice.layers.some(({ activation }) => activation !== "float"),
    isRoundable: choice.layers.some(({ layer }) => layer.inputForm !== undefined),
  };
}

export interface SearchTask {
  readonly engine: Engine;
  /** Made for a recipe that leaves something open. */
  readonly plan: Plan;
  readonly calibration: Calibration;
  readonly recipe: Recipe;
  readonly samples: Samples;
  readonly shards?: readonly ShardStatistics[];
  /** Where trials and their blocks are kept. */
  readonly checkpoint: Checkpoint;
  /** Called with the share that is done, from 0 to 1. */
  readonly onProgress: (done: number) => void;
}

/**
 * Decides what a recipe leaves open: quantizes the network with each candidate on some of the samples and takes the one with
 * the smallest error at the outputs on others, as far as that is no chance. For classifiers, with outputs of up to two axes,
 * that is the divergence.
 *
 * @throws RecoupError as `quantizeNetwork`, and as `Checkpoint.trial`
 */
export async function chooseRecipe(task: SearchTask): Promise<RecipeChoice> {
  const { plan, calibration, recipe, onProgress } = task;
  const kind = kindOf(plan);
  const rounds = roundsOf(recipe, kind);
  const chosen = trialSamples(calibration.indices);
  if (rounds.length === 0 || chosen === undefined) {
    return { recipe: defaultOf(recipe, kind), trials: [], taken: undefined };
  }
  onProgress(0);
  const count = mostTrials(recipe, kind);
  const trials: Trial[] = [];
  const attempt = async (candidate: Candidate): Promise<Tried> => {
    const before = trials.length;
    const number = String(before + 1).padStart(2, "0");
    const progress = (done: number) => onProgress(Math.min(1, (before + done) / count));
    const trial = await tryRecipe(task, candidate, chosen, number, progress);
    trials.push(trial);
    return { candidate, trial };
  };
  const rank = shapeOf(plan.types, plan.float.graph.outputs[0]?.name ?? "")?.length ?? 0;
  let best: Tried | undefined;
  for (const round of rounds) best = await bestOf(round, best, recipe, attempt, rank);
  onProgress(1);
  return { recipe: best?.candidate.recipe ?? recipe, trials, taken: best?.trial.name };
}

interface Tried {
  readonly candidate: Candidate;
  readonly trial: Trial;
}

async function bestOf(
  { candidates, leastGain }: Round,
  start: Tried | undefined,
  recipe: Recipe,
  attempt: (candidate: Candidate) => Promise<Tried>,
  rank: number,
): Promise<Tried | undefined> {
  let best = start;
  for (const candidate of candidates(start?.candidate.recipe ?? recipe)) {
    const tried = await attempt(candidate);
    if (best === undefined || isBetter(best.trial, tried.trial, leastGain, rank)) best = tried;
  }
  return best;
}

/**
 * Whether a trial's error is smaller than another's by a share, and by more than the scatter over the samples explains.
 *
 * @param rank of the first output
 */
export function isBetter(before: Trial, after: Trial, leastGain: number, rank: number): boolean {
  // The softmax of a single value is one, whatever the value.
  const isClassifier = rank <= 2 && (before.kl > 0 || after.kl > 0);
  const errorsOf = ({ samples }: Trial) => samples.map(({ kl, error }) => (isClassifier ? kl : error));
  const [errors, others] = [errorsOf(before), errorsOf(after)];
  const gains = errors.map((error, i) => error - others[i]);
  // What gave no numbers is worse than anything that gives some.
  if (!Number.isFinite(meanOf(errors))) return Number.isFinite(meanOf(others));
  const gain = meanOf(gains);
  const variance = meanOf(gains.map((one) => (one - gain) ** 2)) / Math.max(gains.length - 1, 1);
  return gain > leastGain * meanOf(errors) && gain > leastCertainty * Math.sqrt(variance);
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

async function tryRecipe(
  { engine, plan, calibration, samples, shards, checkpoint }: SearchTask,
  { name, recipe }: Candidate,
  { fitted, held }: { readonly fitted: readonly number[]; readonly held: readonly number[] },
  number: string,
  onProgress: (done: number) => void,
): Promise<Trial> {
  return checkpoint.trial(number, async () => {
    const planned = planLayers(plan, recipe);
    const { model } = await quantizeNetwork({
      engine,
      recipe,
      plan: planned,
      calibration,
      samples,
      shards,
      run: fitted,
      count: fitted.length,
      ranges: (find) => checkpoint.ranges(find, number),
      walk: await checkpoint.walk(number),
      onProgress: (phase, done) => {
        if (phase === "refine") onProgress(done);
      },
    });
    // Against the network before any preparation: what it changes of the outputs counts as an error.
    const compared: SampleComparison[] = [];
    const { kl, sqnrDb } = await withSession(engine, plan.float, { mode: "exact" }, (reference) =>
      withSession(engine, model, { mode: "exact" }, (rounded) =>
        compareOutputs(reference, rounded, samples.read(held), (sample) => compared.push(sample)),
      ),
    );
    const signal = meanOf(compared.map((sample) => sample.signal));
    return { name, kl, sqnrDb, samples: compared.map(({ kl: own, noise }) => ({ kl: own, error: noise / signal })) };
  });
}
