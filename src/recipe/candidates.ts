import { steps } from "../steps.js";
import { parseRecipe, type Recipe, type StepRule } from "./recipe.js";

/** A recipe that is tried, and what it does, in a few words. */
export interface Candidate {
  readonly name: string;
  readonly recipe: Recipe;
}

/** What is tried beside the best recipe so far. */
export interface Round {
  candidates(best: Recipe): readonly Candidate[];
  /** A candidate has to lower the error by this share, or the best stays: what costs time or bytes has to pay. */
  readonly leastGain: number;
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

/** What costs nothing when the model runs has to gain so much, what costs something so much. */
const freeGain = 0.01;
const costlyGain = 0.05;

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
  const without = (left: readonly StepRule[]): Round => ({
    leastGain: 0,
    candidates: (best) => [{ name: `without ${namesOf(left)}`, recipe: withSteps(best, remove(best.steps, left)) }],
  });
  return [
    {
      leastGain: 0,
      candidates: () => (hasOpenTarget ? targetsOf(recipe, kind) : [{ name: "as given", recipe }]),
    },
    ...tried.map((step) => without([step])),
  ];
}

/** A recipe that leaves nothing open, for where nothing can be tried. */
export function defaultOf(recipe: Recipe, kind: NetworkKind): Recipe {
  const [first] = roundsOf(recipe, kind);
  return first?.candidates(recipe)[0]?.recipe ?? recipe;
}

function leavesTargetOpen({ formats }: Recipe): boolean {
  return formats.some(
    ({ weight }) => weight !== "float" && weight.rounding.use === "gptq" && weight.rounding.target === "auto",
  );
}

function targetsOf(recipe: Recipe, { isQuantized }: NetworkKind): readonly Candidate[] {
  const targets = [isQuantized ? "unquantized" : "same", "float"] as const;
  return targets.map((target) => ({ name: `target ${target}`, recipe: withTarget(recipe, target) }));
}

/** From the cheapest to the dearest; each round starts from what the one before has found. */
function automaticRounds(recipe: Recipe, kind: NetworkKind): readonly Round[] {
  const prepared = kind.hasProducts && isLowBit(recipe) ? present([{ use: "layernorm" }]) : [];
  const isLow = isLowBit(recipe) || recipe.formats.some(({ weight }) => weight !== "float" && weight.bits < 4);
  const edges = recipe.edges ?? (isLow ? 8 : undefined);
  const base = withSteps({ ...recipe, auto: false, edges }, prepared);
  const own = kind.isQuantized ? "unquantized" : "same";
  const corrected = (rounded: Recipe) => withSteps(rounded, [...rounded.steps, ...present([{ use: "bc" }])]);
  const gptq = (target: string) => corrected(withRounding(base, target));
  const add = (step: StepRule): Round => ({
    leastGain: costlyGain,
    candidates: (best) =>
      present([step]).map((rule) => ({
        name: `with ${namesOf([rule])}`,
        recipe: withSteps(best, [...best.steps, rule]),
      })),
  });
  return [
    {
      leastGain: 0,
      // What came out best on networks of this kind stands first: the others have to beat it.
      candidates: () =>
        [...(kind.hasProducts ? [own, "float"] : ["float", own])]
          .map((target) => ({ name: `gptq, target ${target}, bc`, recipe: gptq(target) }))
          .concat({ name: "rtn, bc", recipe: corrected(base) }),
    },
    {
      leastGain: freeGain,
      candidates: (best) => [
        {
          name: "without bc",
          recipe: withSteps(
            best,
            best.steps.filter(({ use }) => use !== "bc"),
          ),
        },
        ...prepared.map((step) => ({
          name: `without ${namesOf([step])}`,
          recipe: withSteps(
            best,
            best.steps.filter(({ use }) => use !== step.use),
          ),
        })),
        ...rangesOf(best),
      ],
    },
    add({ use: "qwt" }),
    { ...add({ use: "nbc" }), candidates: (best) => replaceLinear(best) },
    {
      leastGain: freeGain,
      candidates: (best) =>
        present([{ use: "cat" }]).map((rule) => ({ name: "with cat", recipe: withSteps(best, [...best.steps, rule]) })),
    },
  ];
}

/** The bipolar form of a linear compensation in its place, or where there is none, added. */
function replaceLinear(best: Recipe): readonly Candidate[] {
  const others = best.steps.filter(({ use }) => use !== "qwt");
  return present([{ use: "nbc" }]).map((rule) => ({ name: "with nbc", recipe: withSteps(best, [...others, rule]) }));
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

/** Eight bits need no more than rounding to nearest, except where nothing has fewer. */
function withRounding(recipe: Recipe, target: string): Recipe {
  const weights = recipe.formats.flatMap(({ weight }) => (weight === "float" ? [] : [weight]));
  const most = weights.every(({ bits }) => bits === 8) ? 8 : 7;
  return editWeights(recipe, (weight) =>
    weight.bits > most ? weight : { ...weight, rounding: { use: "gptq", target } as never },
  );
}

function withTarget(recipe: Recipe, target: string): Recipe {
  return editWeights(recipe, (weight) => {
    const { rounding } = weight;
    const isOpen = rounding.use === "gptq" && rounding.target === "auto";
    return isOpen ? { ...weight, rounding: { ...rounding, target: target as typeof rounding.target } } : weight;
  });
}

function editWeights(recipe: Recipe, edit: (weight: WeightRule) => WeightRule): Recipe {
  const formats = recipe.formats.map((rule) =>
    rule.weight === "float" ? rule : { ...rule, weight: edit(rule.weight) },
  );
  return parseRecipe({ ...recipe, formats });
}

function withSteps(recipe: Recipe, chosen: readonly StepRule[]): Recipe {
  return { ...recipe, steps: [...chosen] };
}

function remove(all: readonly StepRule[], some: readonly StepRule[]): readonly StepRule[] {
  return all.filter((step) => !some.includes(step));
}

function namesOf(rules: readonly StepRule[]): string {
  return rules.map(({ use }) => use).join(", ");
}
