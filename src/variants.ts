import { type Compared, isBetter, isWorse } from "./compare/gain.js";
import { addsOperators, alternativesOf, simplerThan } from "./recipe/candidates.js";
import type { StepRule } from "./recipe/recipe.js";
import { type FormsTaken, joinForms } from "./step/forms.js";

/** What some steps made of a model. */
export interface Variant extends Pick<Compared, "samples"> {
  readonly steps: readonly StepRule[];
  /** The forms that the steps took somewhere. */
  readonly forms: FormsTaken;
}

interface VariantTask<V extends Variant> {
  /** In order. */
  readonly asked: readonly StepRule[];
  /** The model to beat, without steps. */
  readonly given: V;
  /** Of the first output. */
  readonly rank: number;
  /** The step whose `range` may be left open, and what is tried then. */
  readonly open: { readonly use: string; readonly estimators: readonly string[] };
  tryOut(steps: readonly StepRule[]): Promise<V>;
}

/**
 * What adds operators has to lower the error by so much of it, and by so many times the standard error over the samples: a single
 * sample with all of the gain is one standard error.
 */
const costly = { leastGain: 0.01, certainty: 2 };
/** What adds none is left out where the error is lower without it by so much. */
const needless = { leastGain: 0.01, certainty: 1 };
const any = { leastGain: 0, certainty: 0 };
const costlyForm = 1.5;

/** The steps as they were asked for, in their order: as they are tried, or left out. */
type Slots = readonly (StepRule | undefined)[];

interface Attempt<V> {
  readonly slots: Slots;
  readonly variant: V;
}

/**
 * The steps with each estimator that is open; then of the best each step left out, of the best of these each of the rest, and so
 * on until none is better: a step may harm where others help. What is left is tried with the other estimators. Then, where a step
 * took a costlier form, it is tried in a simpler one, and where it leaves another way open in that.
 *
 * @returns everything in the order in which it was tried, the model as it was given first, and what is best
 */
export async function tryVariants<V extends Variant>(
  task: VariantTask<V>,
): Promise<{ readonly tried: readonly V[]; readonly best: V }> {
  const { asked, given, rank, tryOut } = task;
  const tried = [given];
  const attempt = async (slots: Slots): Promise<Attempt<V>> => {
    const variant = await tryOut(slots.filter((rule) => rule !== undefined));
    tried.push(variant);
    return { slots, variant };
  };
  const attemptAll = async (all: readonly Slots[]) => {
    const attempts: Attempt<V>[] = [];
    for (const slots of all) attempts.push(await attempt(slots));
    return attempts;
  };
  const smallest = (attempts: readonly Attempt<V>[]) =>
    attempts.reduce((a, b) => (isBetter(a.variant, b.variant, { ...any, rank }) ? b : a));
  if (asked.length === 0) return { tried, best: given };
  const estimated = await attemptAll(withEstimators(asked, task.open));
  const whole = smallest(estimated);
  let chosen = whole;
  for (;;) {
    const taken = [...chosen.slots.keys()].filter((i) => chosen.slots[i] !== undefined);
    if (taken.length === 1) break;
    const without = await attemptAll(taken.map((i) => withSlot(chosen.slots, i, undefined)));
    const better = without.filter(({ variant }) => isPreferred(chosen.variant, variant, rank));
    if (better.length === 0) break;
    // Whether the others are needed shows when what costs something is gone.
    const leastCost = Math.min(...better.map(({ variant }) => costOf(variant)));
    chosen = smallest(better.filter(({ variant }) => costOf(variant) === leastCost));
  }
  if (chosen !== whole) {
    // Beside fewer steps another estimator may be better.
    const left = chosen.slots;
    const others = estimated
      .map(({ slots }) => left.map((rule, i) => rule && slots[i]))
      .filter((slots) => slots.some((rule, i) => rule !== left[i]));
    for (const other of await attemptAll(others)) {
      if (isPreferred(chosen.variant, other.variant, rank)) chosen = other;
    }
  }
  const forms = joinForms(tried.map((variant) => variant.forms));
  for (const [i, step] of whole.slots.entries()) {
    if (step === undefined) continue;
    const challenge = async (other: StepRule) => {
      const changed = await attempt(withSlot(chosen.slots, i, other));
      if (isPreferred(chosen.variant, changed.variant, rank)) chosen = changed;
    };
    for (const other of simplerThan(step, forms)) await challenge(other);
    // Of what took the place of a step, too.
    const own = chosen.slots[i];
    for (const other of alternativesOf(own ?? step)) await challenge(other);
    const other = chosen.slots[i];
    if (other === undefined || other === own) continue;
    for (const simpler of simplerThan(other, chosen.variant.forms)) await challenge(simpler);
  }
  return { tried, best: bestOf(tried, chosen.variant, rank) };
}

/**
 * Of what is surely better than everything tried with fewer or simpler steps that add operators: what was chosen, if it is better
 * than the model as it was given, or else what has the smallest error; unless something tried on the way is surely better.
 *
 * @param tried the model as it was given first
 */
export function bestOf<V extends Variant>(tried: readonly V[], chosen: V, rank: number): V {
  const isSurelyBetter = (before: V, after: V) => isBetter(before, after, { ...costly, rank });
  const smaller = (a: V, b: V) => (isBetter(a, b, { ...any, rank }) ? b : a);
  const worthIt = tried.filter((one) =>
    tried.every((other) => costOf(other) >= costOf(one) || isSurelyBetter(other, one)),
  );
  const isFine = worthIt.includes(chosen) && isBetter(tried[0], chosen, { ...any, rank });
  const first = isFine ? chosen : worthIt.reduce(smaller);
  return worthIt.filter((one) => isSurelyBetter(first, one)).reduce(smaller, first);
}

/**
 * Whether a variant takes the place of another: one that adds more has to be surely better, one that adds less must not be surely
 * worse, and one that leaves out what adds nothing has to be better by more than its scatter.
 */
function isPreferred(before: Variant, after: Variant, rank: number): boolean {
  const [cost, costAfter] = [costOf(before), costOf(after)];
  if (costAfter < cost) return !isWorse(before, after, { ...costly, rank });
  if (costAfter > cost) return isBetter(before, after, { ...costly, rank });
  return isBetter(before, after, { ...(after.steps.length < before.steps.length ? needless : any), rank });
}

/** How many steps add operators; a costlier form of one counts half as much again. */
function costOf({ steps, forms }: Variant): number {
  return steps
    .filter(addsOperators)
    .reduce((sum, rule) => sum + (simplerThan(rule, forms).length > 0 ? costlyForm : 1), 0);
}

function withSlot(slots: Slots, index: number, rule: StepRule | undefined): Slots {
  return slots.map((one, i) => (i === index ? rule : one));
}

/** The steps with each estimator that is left open. */
function withEstimators(
  asked: readonly StepRule[],
  { use, estimators }: VariantTask<Variant>["open"],
): readonly Slots[] {
  const isOpen = (rule: StepRule) => rule.use === use && rule.range === undefined;
  if (!asked.some(isOpen)) return [asked];
  return estimators.map((range) => asked.map((rule) => (isOpen(rule) ? { ...rule, range } : rule)));
}
