import type { Calibration } from "./calibration.js";
import type { Checkpoint } from "./checkpoint/checkpoint.js";
import { type Compared, compareSamples, gainOf, isBetter, isWorse, meanOf } from "./compare/gain.js";
import type { Samples } from "./data/samples.js";
import { type Engine, withSession } from "./engine/engine.js";
import { shapeOf } from "./graph/value-types.js";
import { type Plan, planLayers } from "./planning.js";
import { quantizeNetwork, type TrialCounts } from "./quantization.js";
import { type Candidate, defaultOf, type NetworkKind, type Round, roundsOf } from "./recipe/candidates.js";
import type { Recipe } from "./recipe/recipe.js";
import { type FormsTaken, joinForms } from "./step/forms.js";
import { formsIn } from "./walk/solve-sites.js";

/** What a recipe led to on samples that were held back. */
export interface Trial extends Compared {
  /** What was tried, in a few words. */
  readonly name: string;
  /** The forms that its steps took somewhere in the network. */
  readonly forms: FormsTaken;
  /** Beside what was best before it, on the same samples. */
  readonly gain?: TrialGain;
}

/** By how much the error was lower, as a share of the other's, and the standard error of that. */
export interface TrialGain {
  readonly beside: string;
  readonly share: number;
  readonly standardError: number;
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
/** With fewer, chance would choose. */
const leastHeld = 4;

/** The samples that a network is fitted on and those that are held back from it. */
export interface Fold {
  readonly fitted: readonly number[];
  readonly held: readonly number[];
}

/** One half of the samples held back from the other, both ways round; none where there are too few. */
export function trialFolds(indices: readonly number[]): readonly Fold[] {
  const halves = [0, 1].map((half) => indices.filter((_, i) => i % 2 === half).slice(0, mostFitted));
  if (halves[1].length < leastHeld) return [];
  return [
    { fitted: halves[0], held: halves[1] },
    { fitted: halves[1], held: halves[0] },
  ];
}

/** What is tried, and on which samples. */
interface TrialPlan {
  readonly rounds: readonly Round[];
  /** None where nothing is tried. */
  readonly folds: readonly Fold[];
  readonly counts: TrialCounts;
  /** What a user should know of it: that there are too few samples. */
  readonly warnings: readonly string[];
}

/**
 * What a recipe has to try. Each candidate is quantized on the first fold, and on the second where it is better on the first;
 * what later rounds offer may depend on what earlier ones find.
 */
export function planTrials(recipe: Recipe, kind: NetworkKind, indices: readonly number[]): TrialPlan {
  const rounds = roundsOf(recipe, kind);
  const first = defaultOf(recipe, kind);
  const offered = rounds.map((round) => round.candidates(first, {}).length);
  // Where steps are left out others may take their place, and some forms of a step call for a simpler one.
  const atMost = rounds.map((round) =>
    Math.max(...[first, { ...first, steps: [] }].map((one) => round.candidates(one).length)),
  );
  const isOpen = sumOf(offered) > 1;
  const folds = isOpen ? trialFolds(indices) : [];
  const [fewest, most] = folds.length > 0 ? [sumOf(offered), sumOf(atMost) * folds.length] : [0, 0];
  const [{ fitted, held } = { fitted: [], held: [] }] = folds;
  const counts = { fewest, most, fitted: fitted.length, held: held.length };
  return { rounds, folds, counts, warnings: isOpen && folds.length === 0 ? [warningOfFew(indices.length)] : [] };
}

function warningOfFew(count: number): string {
  const taken = "nothing is tried, and the first candidate of each choice is taken";
  return `trials need ${2 * leastHeld} samples, this run has ${count}: ${taken}`;
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
  /** Where trials and their blocks are kept. */
  readonly checkpoint: Checkpoint;
  /** Called with the share that is done, from 0 to 1. */
  readonly onProgress: (done: number) => void;
}

/**
 * Decides what a recipe leaves open: quantizes the network with each candidate on half of the samples and holds its outputs
 * against the float network's on the other half. What seems better there is fitted and tried the other way round too, and
 * takes the place of the best so far where its error is smaller on all samples together, as far as that is no chance. For
 * classifiers, with outputs of up to two axes, the error is the divergence.
 *
 * @throws RecoupError as `quantizeNetwork`, and as `Checkpoint.trial`
 */
export async function chooseRecipe(task: SearchTask): Promise<RecipeChoice> {
  const { plan, calibration, recipe, onProgress } = task;
  const kind = kindOf(plan);
  const { rounds, folds, counts } = planTrials(recipe, kind, calibration.indices);
  const [first, ...others] = rounds.length === 0 ? [] : inOrder(rounds[0], recipe);
  if (first === undefined || folds.length === 0) {
    return { recipe: first?.candidate.recipe ?? recipe, trials: [], taken: undefined };
  }
  onProgress(0);
  let done = 0;
  const rank = shapeOf(plan.types, plan.float.graph.outputs[0]?.name ?? "")?.length ?? 0;
  const contest: Contest = {
    folds: folds.length,
    rank,
    async quantize(candidate, fold) {
      const number = String(done + 1).padStart(2, "0");
      const progress = (part: number) => onProgress(Math.min(1, (done + part) / counts.most));
      const trial = await tryRecipe(task, candidate, folds[fold], number, progress);
      done++;
      return trial;
    },
  };
  let best = first;
  const all = [first];
  const challenge = async (other: Contender, round: Round) => {
    all.push(other);
    if (await takesPlace(contest, best, other, round)) best = other;
  };
  for (const other of others) await challenge(other, rounds[0]);
  for (const round of rounds.slice(1)) {
    // What forms steps take shows in a trial only.
    if (best.fits.length === 0) best.fits.push(await contest.quantize(best.candidate, 0));
    // What a round adds, it adds to what the one before has found.
    const forms = joinForms(all.flatMap(({ fits }) => fits.map((fit) => fit.forms)));
    for (const other of inOrder(round, best.candidate.recipe, forms)) await challenge(other, round);
  }
  onProgress(1);
  const tried = all.filter(({ fits }) => fits.length > 0);
  const trials = tried.map(({ fits, gain }) => ({ ...join(fits), ...(gain && { gain }) }));
  return { recipe: best.candidate.recipe, trials, taken: trials.length > 0 ? best.candidate.name : undefined };
}

/** A candidate with what it led to so far. */
interface Contender {
  readonly candidate: Candidate;
  /** Of the first folds. */
  readonly fits: Trial[];
  gain?: TrialGain;
}

function inOrder(round: Round, best: Recipe, forms?: FormsTaken): readonly Contender[] {
  return round.candidates(best, forms).map((candidate) => ({ candidate, fits: [] }));
}

interface Contest {
  readonly folds: number;
  /** Of the first output. */
  readonly rank: number;
  quantize(candidate: Candidate, fold: number): Promise<Trial>;
}

/**
 * Whether a contender is better than the best so far on all folds together, or cheaper and not surely worse. What is not half as
 * certain on the first of two, or is surely worse there, does not see the other.
 */
async function takesPlace(
  { folds, rank, quantize }: Contest,
  best: Contender,
  other: Contender,
  { leastGain, certainty, isCheaper }: Round,
): Promise<boolean> {
  for (let fold = 0; fold < folds; fold++) {
    for (const { candidate, fits } of [best, other])
      if (fits.length === fold) fits.push(await quantize(candidate, fold));
    const beside = join(best.fits.slice(0, fold + 1));
    const found = join(other.fits);
    const { gain, mean, standardError } = gainOf(beside, found, rank);
    if (Number.isFinite(gain / mean)) {
      other.gain = { beside: beside.name, share: gain / mean, standardError: standardError / mean };
    }
    const isTaken = isCheaper
      ? !isWorse(beside, found, { leastGain, certainty, rank })
      : isBetter(beside, found, { leastGain, certainty: (certainty * (fold + 1)) / folds, rank });
    if (!isTaken) return false;
  }
  return true;
}

/** Trials of one recipe on folds as one. */
function join(fits: readonly Trial[]): Trial {
  const [{ name }] = fits;
  if (fits.length === 1) return fits[0];
  const samples = fits.flatMap((fit) => fit.samples);
  const ratio = meanOf(fits.map(({ sqnrDb }) => 10 ** (-sqnrDb / 10)));
  const kl = meanOf(fits.map((fit) => fit.kl));
  return { name, kl, sqnrDb: -10 * Math.log10(ratio), samples, forms: joinForms(fits.map(({ forms }) => forms)) };
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

async function tryRecipe(
  { engine, plan, calibration, samples, checkpoint }: SearchTask,
  { name, recipe }: Candidate,
  { fitted, held }: Fold,
  number: string,
  onProgress: (done: number) => void,
): Promise<Trial> {
  return checkpoint.trial(number, async () => {
    const planned = planLayers(plan, recipe);
    const { model, refined } = await quantizeNetwork({
      engine,
      recipe,
      plan: planned,
      calibration,
      samples,
      // Not from shards: they have seen what is held back.
      run: fitted,
      count: fitted.length,
      ranges: (find) => checkpoint.ranges(find, number),
      walk: await checkpoint.walk(number),
      onProgress: (phase, done) => {
        if (phase === "refine") onProgress(done);
      },
    });
    // Against the network before any preparation: what it changes of the outputs counts as an error.
    const compared = await withSession(engine, plan.float, { mode: "exact" }, (reference) =>
      withSession(engine, model, { mode: "exact" }, (rounded) =>
        compareSamples(reference, rounded, samples.read(held)),
      ),
    );
    return { name, ...compared, forms: formsIn(refined.steps) };
  });
}
