import type { FormsTaken } from "../step/forms.js";
import { steps } from "../steps.js";
import { parseRecipe, type Recipe, type StepRule } from "./recipe.js";
import { textOfStep } from "./settings.js";

/** A recipe that is tried, and what it does, in a few words. */
export interface Candidate {
  readonly name: string;
  readonly recipe: Recipe;
}

/** What is tried beside the best recipe so far. */
export interface Round {
  /** @param forms those that steps took in what was tried so far; without them all that may be tried */
  candidates(best: Recipe, forms?: FormsTaken): readonly Candidate[];
  /** A candidate has to lower the error by this share, or the best stays: what costs time or bytes has to pay. */
  readonly leastGain: number;
  /** So many times its standard error over the samples the difference has to be, or the best stays: chance chooses nothing. */
  readonly certainty: number;
  /** What costs less when the model runs takes the place of the best, unless the best is better by that much. */
  readonly isCheaper?: boolean;
}

/** What decides which recipes are worth a trial. */
export interface NetworkKind {
  /** Whether products of activations are quantized, as in attention. */
  readonly hasProducts: boolean;
  /** Whether any activations are quantized. */
  readonly isQuantized: boolean;
  /** Whether a layer is one product with its weight, which can be rounded by its input. */
  readonly isRoundable: boolean;
}

type WeightRule = Exclude<Recipe["formats"][number]["weight"], "float">;

/** What costs nothing when the model runs has to gain so much, what costs bytes so much, what ends integer kernels so much. */
const freeGain = 0.01;
const usualGain = 0.05;
const costlyGain = 0.1;
/**
 * Divergences have long tails: a hundred samples tell recipes apart only that are far apart. What stands first came out best
 * on networks of its kind, and several others may each beat it by chance.
 */
const certain = 2;
/** Enough for what came out well on other networks of the kind too. */
const likely = 1;

/**
 * What a run tries before it starts: where a rounding leaves its target open, the targets; of steps that cost something, the
 * recipe without them; for `auto` the rounding, the steps and the ranges.
 *
 * @returns nothing where nothing is open; else the first round holds at least one candidate
 */
export function roundsOf(recipe: Recipe, kind: NetworkKind): readonly Round[] {
  if (recipe.auto) return automaticRounds(recipe, kind);
  const tried = recipe.steps.filter(({ use }) => steps.some(({ name, isTried }) => name === use && isTried));
  const hasOpenTarget = kind.isRoundable && leavesTargetOpen(recipe);
  if (!hasOpenTarget && tried.length === 0) return [];
  return [
    {
      leastGain: 0,
      certainty: certain,
      candidates: () => (hasOpenTarget ? targetsOf(recipe, kind) : [{ name: "as given", recipe }]),
    },
    ...tried.flatMap((step) => roundsOfStep(recipe, step)),
  ];
}

/**
 * What is tried of a step that costs something: simpler forms where it took a costlier one, the network without it, and its
 * alternatives. Of two forms the costlier has to be surely better; the step stays where the error is smaller with it: without it
 * nothing has to be certain.
 */
function roundsOfStep(recipe: Recipe, step: StepRule): readonly Round[] {
  const ways = [step, ...alternativesOf(step)].map((rule) => [rule, ...simplerThan(rule)]);
  const rules = ways.flat();
  const behind = recipe.steps.slice(recipe.steps.indexOf(step) + 1);
  const withRules = (best: Recipe, name: string, chosen: readonly StepRule[]): Candidate => {
    const others = best.steps.filter((one) => !rules.includes(one));
    const place = others.filter((one) => !behind.includes(one)).length;
    return { name, recipe: withSteps(best, [...others.slice(0, place), ...chosen, ...others.slice(place)]) };
  };
  const withRule = (best: Recipe, rule: StepRule) => withRules(best, `with ${textOfStep(rule)}`, [rule]);
  const simplified = ([rule, ...simpler]: readonly StepRule[]): readonly Round[] => {
    const isOpen = (best: Recipe, forms?: FormsTaken) =>
      forms === undefined || (best.steps.includes(rule) && simplerThan(rule, forms).length > 0);
    const candidates: Round["candidates"] = (best, forms) =>
      isOpen(best, forms) ? simpler.map((other) => withRule(best, other)) : [];
    return simpler.length === 0 ? [] : [{ leastGain: freeGain, certainty: certain, isCheaper: true, candidates }];
  };
  const inSameForm = (way: readonly StepRule[], best: Recipe) =>
    way[Math.max(0, ...ways.map((forms) => forms.findIndex((rule) => best.steps.includes(rule))))];
  const any = { leastGain: 0, certainty: 0 };
  const [own, ...others] = ways;
  return [
    ...simplified(own),
    { ...any, candidates: (best) => [withRules(best, `without ${step.use}`, [])] },
    ...others.flatMap((way) => [
      { ...any, candidates: (best: Recipe) => [withRule(best, inSameForm(way, best))] },
      ...simplified(way),
    ]),
  ];
}

/** What is tried beside a step. */
export function alternativesOf({ use, ...options }: StepRule): readonly StepRule[] {
  const step = steps.find(({ name }) => name === use);
  return (step?.alternatives(options) ?? []).map((other) => ({ use, ...other }));
}

/** What is tried beside a step that took some forms, or any where they are not known. */
export function simplerThan({ use, ...options }: StepRule, forms?: FormsTaken): readonly StepRule[] {
  const step = steps.find(({ name }) => name === use);
  const taken = forms && new Set(forms[use] ?? []);
  return (step?.simpler(options, taken) ?? []).map((other) => ({ use, ...other }));
}

/** Whether a model has operators more by a step. */
export function addsOperators({ use, ...options }: StepRule): boolean {
  return steps.find(({ name }) => name === use)?.addsOperators(options) ?? false;
}

/** A recipe that leaves nothing open, for where nothing can be tried. */
export function defaultOf(recipe: Recipe, kind: NetworkKind): Recipe {
  const [first] = roundsOf(recipe, kind);
  return first?.candidates(recipe)[0]?.recipe ?? recipe;
}

function leavesTargetOpen({ formats }: Recipe): boolean {
  return formats.some(
    ({ weight }) => weight !== "float" && weight.rounding?.use === "gptq" && weight.rounding.target === "auto",
  );
}

function targetsOf(recipe: Recipe, kind: NetworkKind): readonly Candidate[] {
  return targetsFor(kind).map((target) => ({ name: `target ${target}`, recipe: withTarget(recipe, target) }));
}

/** What came out best on networks of the kind stands first. */
function targetsFor({ hasProducts, isQuantized }: NetworkKind): readonly ("same" | "unquantized" | "float")[] {
  const own = isQuantized ? "unquantized" : "same";
  return hasProducts ? [own, "float"] : ["float", own];
}

/**
 * From the cheapest to the dearest; each round starts from what the one before has found. What stands first came out best on
 * networks of the kind: the others have to beat it.
 */
function automaticRounds(recipe: Recipe, kind: NetworkKind): readonly Round[] {
  const isLow = isLowBit(recipe) || recipe.formats.some(({ weight }) => weight !== "float" && weight.bits < 4);
  const edges = recipe.edges ?? (isLow ? 8 : undefined);
  const prepared = kind.hasProducts && isLowBit(recipe) ? present([{ use: "layernorm" }]) : [];
  const closed = parseRecipe({ ...recipe, auto: false, edges });
  const base = withSteps(closed, [...prepared, ...present([{ use: "bc" }])]);
  const gptq = targetsFor(kind).map((target) => ({
    name: `gptq, target ${target}, bc`,
    recipe: withRounding(base, target),
  }));
  const nearest = { name: "rtn, bc", recipe: base };
  const [best] = gptq;
  const free = { leastGain: freeGain, certainty: certain };
  // On attention below 8 bits compensated blocks came out best at all bits: there a gain need not be certain.
  const isUsual = kind.hasProducts && (!isEightBit(recipe) || isLowBit(recipe));
  const linear = isUsual
    ? { leastGain: usualGain, certainty: 0 }
    : { leastGain: costlyGain, certainty: isEightBit(recipe) ? certain : likely };
  const compensated: readonly Round[] = [
    { ...linear, candidates: (found) => added(found, { use: "qwt" }) },
    ...(isUsual ? [] : [{ ...linear, candidates: withOwnTarget }]),
    // Where a linear compensation does not pay, one with two more terms does not either.
    { leastGain: usualGain, certainty: certain, candidates: replaceLinear },
  ];
  const ranges: Round = { ...free, candidates: rangesOf };
  return [
    // Eight bits leave little to gain, and rounding to nearest takes no time.
    { ...free, candidates: () => (isEightBit(recipe) ? [nearest, best] : gptq) },
    { ...free, candidates: (found) => found.steps.map((step) => withoutStep(found, step)) },
    // What is usual comes before what is not.
    ...(isUsual ? [...compensated, ranges] : [ranges, ...compensated]),
    { ...free, candidates: (found) => added(found, { use: "cat" }) },
  ];
}

function added(best: Recipe, step: StepRule): readonly Candidate[] {
  return present([step]).map((rule) => ({
    name: `with ${textOfStep(rule)}`,
    recipe: withSteps(best, [...best.steps, rule]),
  }));
}

function withoutStep(best: Recipe, { use }: StepRule): Candidate {
  return {
    name: `without ${use}`,
    recipe: withSteps(
      best,
      best.steps.filter((step) => step.use !== use),
    ),
  };
}

/** A linear compensation with the float block's own output as its target, in place of one that stays and where none does. */
function withOwnTarget(best: Recipe): readonly Candidate[] {
  return instead(best, { use: "qwt", rho: 0 });
}

/** The bipolar form of a linear compensation in its place. */
function replaceLinear(best: Recipe): readonly Candidate[] {
  return best.steps.flatMap((step) => (step.use === "qwt" ? instead(best, { ...step, use: "nbc" }) : []));
}

/** A compensation of blocks in place of the linear one. */
function instead(best: Recipe, step: StepRule): readonly Candidate[] {
  const others = best.steps.filter(({ use }) => use !== "qwt");
  return added({ ...best, steps: others }, step);
}

/** Heavy tails are cut off by a percentile where few codes have to do; one in 10,000 values is too little of them. */
function rangesOf(best: Recipe): readonly Candidate[] {
  if (!best.formats.some(({ activation }) => activation !== "float" && activation.bits < 8)) return [];
  const formats = best.formats.map((rule) =>
    rule.activation === "float" || rule.activation.bits === 8
      ? rule
      : { ...rule, activation: { ...rule.activation, range: "percentile-99.9" } },
  );
  return [{ name: "percentile ranges", recipe: { ...best, formats } }];
}

function isLowBit({ formats }: Recipe): boolean {
  return formats.some(({ activation }) => activation !== "float" && activation.bits < 8);
}

/** Those of some steps that there are, with every option filled in. */
function present(rules: readonly StepRule[]): readonly StepRule[] {
  const known = rules.filter(({ use }) => steps.some(({ name }) => name === use));
  return parseRecipe({ steps: [...known] }).steps;
}

function isEightBit({ formats }: Recipe): boolean {
  return formats.every(({ weight }) => weight === "float" || weight.bits === 8);
}

/** Beside fewer bits, eight need no more than rounding to nearest. */
function withRounding(recipe: Recipe, target: string): Recipe {
  const isAll = isEightBit(recipe);
  return editWeights(recipe, (weight) =>
    weight.bits === 8 && !isAll ? weight : { ...weight, rounding: { use: "gptq", target } as never },
  );
}

function withTarget(recipe: Recipe, target: string): Recipe {
  return editWeights(recipe, (weight) => {
    const { rounding } = weight;
    const isOpen = rounding?.use === "gptq" && rounding.target === "auto";
    return isOpen ? { ...weight, rounding: { ...rounding, target: target as typeof rounding.target } } : weight;
  });
}

function editWeights(recipe: Recipe, edit: (weight: WeightRule) => WeightRule): Recipe {
  const formats = recipe.formats.map((rule) =>
    rule.weight === "float" ? rule : { ...rule, weight: edit(rule.weight) },
  );
  // Steps stay the same objects, by which later rounds know them.
  return { ...parseRecipe({ ...recipe, formats }), steps: recipe.steps };
}

function withSteps(recipe: Recipe, chosen: readonly StepRule[]): Recipe {
  return { ...recipe, steps: [...chosen] };
}
