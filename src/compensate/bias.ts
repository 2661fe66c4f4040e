import { type OutputError, OutputErrorStatistic, type OutputSite } from "../calibrate/output-error.js";
import { elementTypeOf, shapeOf } from "../graph/value-types.js";
import { behindActivation } from "../operators/selecting.js";
import { isFloatType } from "../tensor/element-type.js";
import { resolveAxis } from "../tensor/shape.js";
import { addToBias, type BiasPlace, biasedOutput, biasObstacle } from "./fold-bias.js";
import { defineStep, type Outcome, type Round, type Site, type SiteLayer, type StepContext } from "./step.js";

/** What is added to a layer's bias, `[C]`. */
type Bias = Float64Array;

interface BiasSite extends Site, OutputSite, BiasPlace {}

/** Rounds behind a Relu or Clip: each is one more run over the samples; the third changes little. */
const activatedRounds = 3;

/**
 * Bias compensation, per channel: the constant that minimises the squared error of a layer's output, with inputs from the
 * quantized and already compensated network and the float network's output as the target. Folded into the layer's own
 * bias, so it costs nothing when the model runs.
 *
 * Without an activation function behind the layer the optimum is the mean error. Behind a Relu or Clip the error that
 * counts is the one it lets through, which the mean of mostly cut-off values does not know: there the zero of the
 * derivative is approached by Newton steps, and each channel keeps the best bias seen, no change included.
 *
 * @see Gong et al., Bias Compensation, arXiv:2404.01892, section 3; METHODS 3.1, 3.5
 */
export const biasCompensation = defineStep<BiasSite, OutputError, Bias>({
  name: "bc",
  summary: "bias compensation: moves each layer's bias so that its mean error vanishes (no cost at run time)",
  sites(context) {
    const described = context.layers.map((layer) => describeSite(context, layer));
    return {
      usable: described.filter((site): site is BiasSite => "channelAxis" in site),
      unusable: described.filter((site) => "reason" in site),
    };
  },
  statistic: (site) => new OutputErrorStatistic(site),
  solve: (site, found, rounds) => (site.output === site.activated ? solveMean(found) : solveActivated(found, rounds)),
  rewrite(graph, site, solution, before) {
    const change = before === undefined ? solution : solution.map((value, i) => value - before[i]);
    return addToBias(graph, site, change);
  },
});

function describeSite(context: StepContext, layer: SiteLayer): BiasSite | { label: string; reason: string } {
  const { label } = layer;
  const node = context.float.producer(layer.output);
  const shape = shapeOf(context.types, layer.output);
  const elementType = elementTypeOf(context.types, layer.output);
  const obstacle = node === undefined ? "its output was folded away" : biasObstacle(node);
  if (obstacle !== undefined) return { label, reason: obstacle };
  if (shape === undefined || elementType === undefined || !isFloatType(elementType)) {
    return { label, reason: "the type or rank of its output is unknown" };
  }
  const channelAxis = resolveAxis(layer.outputAxis, shape.length);
  const axisFromEnd = channelAxis - shape.length;
  const channels = shape[channelAxis];
  const output =
    typeof channels === "number" ? biasedOutput(context.float, layer.output, axisFromEnd, channels) : layer.output;
  const activated = behindActivation(context.float, output);
  return { label, value: output, output, activated, rank: shape.length, channelAxis, axisFromEnd, elementType };
}

/** The convex problem in one line: the error after is the error before less the square of its mean. */
function solveMean(found: OutputError): Outcome<Bias> {
  const errorBefore = average(found.squared);
  const errorAfter = average(found.squared.map((squared, i) => squared - found.mean[i] ** 2));
  return decide(found.mean, errorBefore, errorAfter);
}

function solveActivated(found: OutputError, rounds: readonly Round<OutputError, Bias>[]): Outcome<Bias> {
  const current = rounds.at(-1)?.solution ?? new Float64Array(found.mean.length);
  if (rounds.length === 0) return { kind: "refine", solution: found.mean };
  if (rounds.length < activatedRounds) {
    return { kind: "refine", solution: current.map((value, i) => value + found.step[i]) };
  }
  // Round r measured the error of the bias that round r - 1 put in; before the first there was none.
  const tried = [new Float64Array(current.length), ...rounds.map((round) => round.solution)];
  const errors = [...rounds.map((round) => round.found.squared), found.squared];
  const best = current.map((_, channel) => argMin(errors.map((error) => error[channel])));
  const solution = best.map((round, channel) => tried[round][channel]);
  const after = best.map((round, channel) => errors[round][channel]);
  return decide(solution, average(errors[0]), average(after));
}

function decide(solution: Bias, errorBefore: number, errorAfter: number): Outcome<Bias> {
  if (!solution.every(Number.isFinite)) return { kind: "skipped", reason: "the output error is not finite" };
  return { kind: "solved", solution, errorBefore, errorAfter };
}

function average(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function argMin(values: readonly number[]): number {
  return values.reduce((best, value, i) => (value < values[best] ? i : best), 0);
}
