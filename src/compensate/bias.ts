import { type OutputError, type OutputErrorOfRuns, OutputErrorStatistic } from "../calibrate/output-error.js";
import type { HeadToken } from "../calibrate/token-weights.js";
import { defineStep } from "../step/open-step.js";
import type { Outcome, Round } from "../step/step.js";
import { type BiasSite, biasOptions, findBiasSites, withPart } from "./bias-sites.js";
import { addToBias } from "./fold-bias.js";

/** What is added to a bias: `[C]`, or all positions and channels in the order of the output. */
type Bias = Float64Array;

/** The bias as fitted on all runs; as long as it has to be judged also as fitted on the one and on the other half of them. */
type Solution = readonly [Bias, ...Bias[]];

/** With nothing on trial all fits see the same; later each of them has what was measured with its own bias. */
type Found = readonly [OutputError, ...OutputError[]];

/** Rounds behind a Relu or Clip: each is one more run over the outputs; the third changes little. */
const limitedRounds = 3;

/** The share of its error that a place other than a layer has to lose on runs that its bias was not fitted on. */
const leastGain = 0.01;

/**
 * Layers have something to gain as a rule, and two halves tell little of what is smaller than their own scatter. So there is
 * doubt only where the error is larger by this share on runs that a bias was not fitted on than on those that it was.
 */
const leastDoubt = 0.05;
/** Below this the rounds to come are no matter of doubt either. */
const noDoubt = 0.01;

/**
 * Bias compensation, per channel: the constant that minimises the squared error of a layer's output, with inputs from the
 * quantized and already compensated network and the float network's output as the target. Folded into the layer's own
 * bias, so it costs nothing when the model runs.
 *
 * Without an activation function behind the layer the optimum is the mean error. Behind a Relu or Clip the error that
 * counts is the one it lets through, which the mean of mostly cut-off values does not know: there the zero of the
 * derivative is approached by Newton steps, and each channel keeps the best bias seen, no change included.
 *
 * With `bias: "position"` every position of a channel has a constant of its own, `[T, C]` or `[C, H, W]`: the published form,
 * which needs outputs of fixed shape, makes the model larger, and of N samples learns 1/N of the error's variance by heart.
 *
 * Other `places` than layers are attentions, multilayer perceptrons, whole blocks and the network's outputs. A bias is kept
 * only where it lowers the error on runs that it was not fitted on; that of a layer also where it is much the same on them
 * (`keep: "all"` keeps every one, as published). With `inputs: "float"` every place is measured on what enters it in the float
 * network, as published; with `target: "local"` its target is what its float form makes of what enters it in the quantized
 * network. The default sees the errors that arrive from all places before too.
 *
 * Where the head reads one token, that counts as often as there are tokens, or as `token` says; errors are then means with
 * these weights.
 *
 * @see Gong et al., Bias Compensation, arXiv:2404.01892, section 3; docs/methods/bias-compensation.md
 */
export const biasCompensation = defineStep<typeof biasOptions, BiasSite, Found, Solution>({
  name: "bc",
  summary: "bias compensation: moves each layer's bias so that its mean error vanishes (no cost at run time)",
  outcome: "places compensated",
  addsOperators: ({ bias }) => bias === "position",
  options: biasOptions,
  sites: findBiasSites,
  statistics(site, rounds, graph) {
    const [whole, ...halves] = rounds.at(-1)?.solution ?? [undefined];
    const now = withPart(site, graph);
    return [new OutputErrorStatistic(now, whole), ...halves.map((bias) => new OutputErrorStatistic(now, bias))];
  },
  solve(site, found, rounds) {
    const [{ count, squared, step, halves }] = found;
    if (count === 0) return { kind: "skipped", reason: "its output was empty on every sample" };
    if (![...squared, ...step].every(Number.isFinite)) {
      return { kind: "skipped", reason: "its output error is not finite" };
    }
    const areHalves = halves.every((half) => half.count > 0);
    if (site.isJudged && !areHalves && !site.isLayer) {
      return { kind: "skipped", reason: "all samples ran at once: nothing is left to judge a bias on" };
    }
    const measured = [...rounds.map((round) => round.found), found];
    const whole = wholeFit(measured, rounds);
    const isOpen = site.isJudged && areHalves && rounds.every(({ solution }) => solution.length > 1);
    const parts = isOpen ? [0, 1].map((half) => halfFit(measured, rounds, half)) : [];
    const judge = site.limits === undefined ? solveMean : solveLimited;
    const [judged, judgedParts] = [judge(whole), parts.map(judge)];
    if (site.limits !== undefined && rounds.length < limitedRounds) {
      // A round with three biases takes longer than one with one.
      const isSettled = site.isLayer && judged.after < judged.before && doubtOf(judged, judgedParts) <= noDoubt;
      return { kind: "refine", solution: [nextTrial(whole), ...(isSettled ? [] : parts.map(nextTrial))] };
    }
    return decide(site, judged, judgedParts, areHalves);
  },
  rewrite: (graph, { place }, [bias]) => addToBias(graph, place, bias),
});

/** What one fit sees: of each round the bias that was on trial, the errors that it looks at, and those it is judged by. */
interface Fit {
  readonly tried: readonly Bias[];
  readonly own: readonly OutputErrorOfRuns[];
  readonly others: readonly OutputErrorOfRuns[];
}

function wholeFit(measured: readonly Found[], rounds: readonly Round<Found, Solution>[]): Fit {
  const own = measured.map(([error]) => error);
  return { tried: [noBias(own[0]), ...rounds.map(({ solution: [bias] }) => bias)], own, others: own };
}

function halfFit(measured: readonly Found[], rounds: readonly Round<Found, Solution>[], half: number): Fit {
  const seen = measured.map((errors) => errors[1 + half] ?? errors[0]);
  return {
    tried: [noBias(seen[0]), ...rounds.map(({ solution }) => solution[1 + half])],
    own: seen.map(({ halves }) => halves[half]),
    others: seen.map(({ halves }) => halves[1 - half]),
  };
}

function noBias({ step }: OutputErrorOfRuns): Bias {
  return new Float64Array(step.length);
}

/** A Newton step from the bias that was tried last. */
function nextTrial({ tried, own }: Fit): Bias {
  const latest = own.length - 1;
  return own[latest].step.map((step, channel) => tried[latest][channel] + step);
}

/** A bias, and the mean squared errors without and with it on the runs that it is judged by. */
interface Judged {
  readonly bias: Bias;
  readonly before: number;
  readonly after: number;
}

/** The convex problem in one line: a bias b turns the mean square s of an error of mean m into s − 2 b m + b². */
function solveMean({ own: [{ step: bias }], others: [{ squared, step }] }: Fit): Judged {
  const after = squared.map((error, c) => Math.max(error - 2 * bias[c] * step[c] + bias[c] ** 2, 0));
  return { bias, before: average(squared), after: average(after) };
}

/** Of each channel the best bias that was tried. */
function solveLimited({ tried, own, others }: Fit): Judged {
  const best = own[0].squared.map((_, channel) => argMin(own.map(({ squared }) => squared[channel])));
  const bias = best.map((round, channel) => tried[round][channel]);
  const after = best.map((round, channel) => others[round].squared[channel]);
  return { bias, before: average(others[0].squared), after: average(after) };
}

/** Does no harm: a bias that does not help stays what it is. */
function decide(site: BiasSite, whole: Judged, halves: readonly Judged[], areHalves: boolean): Outcome<Solution> {
  if (whole.after >= whole.before) return { kind: "skipped", reason: "no other bias lowers its output error" };
  const ratio = ratioOf(halves).toFixed(3);
  if (!isKept(site, whole, halves)) {
    return { kind: "skipped", reason: `on samples held back its error would be ${ratio} times what it is` };
  }
  const remarks = [
    ...(areHalves || !site.isJudged ? [] : ["all samples ran at once: nothing is left to judge its bias on"]),
    ...(site.isLayer || !site.isJudged ? [] : [`error ${ratio} on samples held back`]),
    ...(site.token === undefined ? [] : [`token ${site.token.index} counts ${timesOf(site.token)}`]),
    ...(site.positions === undefined ? [] : [`its bias holds ${site.positions.join(" × ")} numbers`]),
  ];
  const remark = remarks.length === 0 ? {} : { remark: remarks.join("; ") };
  return { kind: "solved", solution: [whole.bias], errorBefore: whole.before, errorAfter: whole.after, ...remark };
}

/** @param halves none where there is nothing to judge by, or nothing that is still in doubt */
function isKept({ isLayer }: BiasSite, whole: Judged, halves: readonly Judged[]): boolean {
  if (halves.length === 0) return true;
  const ratio = ratioOf(halves);
  if (!isLayer) return ratio <= 1 - leastGain;
  return ratio < 1 || doubtOf(whole, halves) <= leastDoubt;
}

/** By how much the error is larger on runs that a bias was not fitted on than on those that it was, as a share of that without. */
function doubtOf(whole: Judged, halves: readonly Judged[]): number {
  return ratioOf(halves) - ratioOf([whole]);
}

/** The error with a bias as a share of that without. */
function ratioOf(judged: readonly Judged[]): number {
  const sum = (key: "before" | "after") => judged.reduce((total, one) => total + one[key], 0);
  return sum("after") / sum("before");
}

function timesOf({ weight }: HeadToken): string {
  return typeof weight === "number" ? `${weight} times` : "as much as all others";
}

function average(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function argMin(values: readonly number[]): number {
  return values.reduce((best, value, i) => (value < values[best] ? i : best), 0);
}
