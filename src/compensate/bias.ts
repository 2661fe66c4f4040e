import { type OutputError, OutputErrorStatistic, type OutputSite } from "../calibrate/output-error.js";
import type { Graph, ValueName } from "../graph/graph.js";
import { onlyConsumer } from "../graph/node.js";
import { elementTypeOf, shapeOf } from "../graph/value-types.js";
import { type Limits, limitsOf } from "../operators/limits.js";
import { defineStep, type Outcome, type Round, type Site, type SiteLayer, type StepContext } from "../step/step.js";
import { isFloatType } from "../tensor/element-type.js";
import { resolveAxis } from "../tensor/shape.js";
import { addToBias, type BiasPlace, biasedOutput, biasObstacle } from "./fold-bias.js";

/** What is added to a layer's bias: `[C]`, or all positions and channels in the order of the output. */
type Bias = Float64Array;

interface BiasSite extends Site, OutputSite, BiasPlace {}

const options = {
  bias: {
    kind: "choice",
    help: "what has a constant of its own: each channel, or each position of it (as many numbers as a sample's output)",
    default: "channel",
    choices: ["channel", "position"],
  },
} as const;

/** Rounds behind a Relu or Clip: each is one more run over the outputs; the third changes little. */
const limitedRounds = 3;

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
 * @see Gong et al., Bias Compensation, arXiv:2404.01892, section 3; docs/methods/bias-compensation.md
 */
export const biasCompensation = defineStep<typeof options, BiasSite, readonly [OutputError], Bias>({
  name: "bc",
  summary: "bias compensation: moves each layer's bias so that its mean error vanishes (no cost at run time)",
  outcome: "layers compensated",
  options,
  sites(context, { bias }) {
    const described = context.layers.map((layer) => describeSite(context, layer, bias === "position"));
    return {
      usable: described.filter((site): site is BiasSite => "channelAxis" in site),
      unusable: described.filter((site) => "reason" in site),
    };
  },
  statistics: (site, rounds) => [new OutputErrorStatistic(site, rounds.at(-1)?.solution)],
  solve(site, [found], rounds) {
    if (found.count === 0) return { kind: "skipped", reason: "its output was empty on every sample" };
    if (![...found.squared, ...found.step].every(Number.isFinite)) {
      return { kind: "skipped", reason: "its output error is not finite" };
    }
    const outcome = site.limits === undefined ? solveMean(found) : solveLimited(found, rounds);
    if (site.positions === undefined || outcome.kind !== "solved") return outcome;
    return { ...outcome, remark: `its bias holds ${site.positions.join(" × ")} numbers` };
  },
  rewrite: addToBias,
});

function describeSite(
  context: StepContext,
  layer: SiteLayer,
  isByPosition: boolean,
): BiasSite | { label: string; reason: string } {
  const { label } = layer;
  const node = context.float.producer(layer.output);
  const obstacle = node === undefined ? "its output was folded away" : biasObstacle(node);
  if (obstacle !== undefined) return { label, reason: obstacle };
  const shape = shapeOf(context.types, layer.output);
  const rank = shape?.length;
  const elementType = elementTypeOf(context.types, layer.output);
  if (shape === undefined || rank === undefined || elementType === undefined || !isFloatType(elementType)) {
    return { label, reason: "the type or rank of its output is unknown" };
  }
  const channelAxis = resolveAxis(layer.outputAxis, rank);
  const axisFromEnd = channelAxis - rank;
  const output = biasedOutput(context.float, context.types, layer.output, axisFromEnd);
  const limits = limitsBehind(context.float, output);
  const site = { label, value: output, output, limits, rank, channelAxis, axisFromEnd, elementType };
  if (!isByPosition) return site;
  if (channelAxis === 0) return { label, reason: "its first axis holds channels, not samples" };
  const positions = shape.slice(1).filter((size) => typeof size === "number");
  if (positions.length < rank - 1) {
    return { label, reason: "the length of an axis of its output is not fixed: there is no bias per position" };
  }
  // Where there are no positions besides the channels, the layer's own bias will do.
  return positions.length === 1 ? site : { ...site, positions };
}

/** Of the Relu or Clip that is the only reader of a value. */
function limitsBehind(graph: Graph, value: ValueName): Limits | undefined {
  const activation = onlyConsumer(graph, value);
  return activation?.inputs[0] === value ? limitsOf(graph, activation) : undefined;
}

/** The convex problem in one line: the error after is the error before less the square of its mean. */
function solveMean({ squared, step }: OutputError): Outcome<Bias> {
  const after = squared.map((error, channel) => Math.max(error - step[channel] ** 2, 0));
  return decide(step, squared, after);
}

function solveLimited(found: OutputError, rounds: readonly Round<readonly [OutputError], Bias>[]): Outcome<Bias> {
  // What each measurement was made with: first nothing, then the solution of the round before.
  const tried = [new Float64Array(found.step.length), ...rounds.map((round) => round.solution)];
  if (rounds.length < limitedRounds) {
    const latest = tried[rounds.length];
    return { kind: "refine", solution: found.step.map((step, channel) => latest[channel] + step) };
  }
  const errors = [...rounds.map(({ found: [before] }) => before.squared), found.squared];
  const best = found.step.map((_, channel) => argMin(errors.map((error) => error[channel])));
  const solution = best.map((round, channel) => tried[round][channel]);
  return decide(
    solution,
    errors[0],
    best.map((round, channel) => errors[round][channel]),
  );
}

/** Does no harm: a bias that does not help stays what it is. */
function decide(solution: Bias, before: Float64Array, after: Float64Array): Outcome<Bias> {
  const [errorBefore, errorAfter] = [average(before), average(after)];
  if (errorAfter >= errorBefore) return { kind: "skipped", reason: "no other bias lowers its output error" };
  return { kind: "solved", solution, errorBefore, errorAfter };
}

function average(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function argMin(values: readonly number[]): number {
  return values.reduce((best, value, i) => (value < values[best] ? i : best), 0);
}
