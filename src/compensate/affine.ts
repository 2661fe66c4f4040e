import {
  type ChannelLines,
  type ChannelSums,
  ChannelSumsStatistic,
  type ChannelTrial,
  ChannelTrialStatistic,
} from "../calibrate/channel-lines.js";
import type { OutputSite } from "../calibrate/output-error.js";
import type { Statistic } from "../calibrate/statistic.js";
import { onlyConsumer } from "../graph/node.js";
import { elementTypeOf, shapeOf } from "../graph/value-types.js";
import { limitsOf } from "../operators/limits.js";
import { defineStep } from "../step/open-step.js";
import type { Outcome, Round, Site, SiteLayer, StepContext } from "../step/step.js";
import { isFloatType } from "../tensor/element-type.js";
import { resolveAxis } from "../tensor/shape.js";
import { type AffinePlace, writeLines } from "./fold-affine.js";
import { biasedOutput, biasObstacle } from "./fold-bias.js";

const options = {
  tau: {
    kind: "number",
    help: "how far gains are drawn towards 1: a correlation counts as one over 1 + tau of itself",
    default: 0.1,
    least: 0,
    most: 1000,
  },
} as const;

interface AffineSite extends Site, OutputSite, AffinePlace {
  readonly tau: number;
}

/** First the lines as fitted on the halves and on everything, then the ones that are kept. */
type Solution = readonly ChannelLines[];
type Found = readonly [readonly ChannelSums[] | ChannelTrial];

/** What a channel's error has to lose on runs that its line was not fitted on. */
const leastGain = 0.01;
/** Beside the square of the mean, a variance that is nothing. */
const noVariance = 1e-9;

/**
 * Channel-wise affine compensation: q' = γ q + β for each output channel of a layer, the line that brings it closest to the
 * float network's output, γ drawn towards 1. It goes into the scales of the layer's weight and into its bias, so it costs
 * nothing when the model runs; where they cannot take it, a Mul and an Add are written. Channels that it does not help on
 * runs it was not fitted on, behind the activation function where there is one, stay as they are.
 *
 * @see QwT-v2, arXiv:2505.20932; docs/methods/affine.md
 */
export const channelCompensation = defineStep<typeof options, AffineSite, Found, Solution>({
  name: "affine",
  summary: "channel compensation: a line for each layer's output channel, in its weight's scales and bias (no cost)",
  outcome: "layers compensated",
  // What is closer to the float network layer by layer need not be at the output: on a vision transformer it was far from it.
  isTried: true,
  options,
  sites(context, { tau }) {
    const described = context.layers.map((layer) => describeSite(context, layer, tau));
    return {
      usable: described.filter((site) => "tau" in site),
      unusable: described.filter((site) => "reason" in site),
    };
  },
  statistics(site, rounds) {
    const lines = rounds.at(-1)?.solution;
    const statistic = lines ? new ChannelTrialStatistic(site, [lines[0], lines[1]]) : new ChannelSumsStatistic(site);
    return [statistic as Statistic<readonly ChannelSums[] | ChannelTrial>];
  },
  solve(site, [found], rounds) {
    return "before" in found ? decide(found, rounds) : fitLines(site, found);
  },
  rewrite: (graph, site, [lines]) => writeLines(graph, site, lines),
});

function describeSite(
  { float, types }: StepContext,
  { label, output, outputAxis }: SiteLayer,
  tau: number,
): AffineSite | { readonly label: string; readonly reason: string } {
  const node = float.producer(output);
  const obstacle = node === undefined ? "its output was folded away" : biasObstacle(node);
  if (obstacle !== undefined) return { label, reason: obstacle };
  const rank = shapeOf(types, output)?.length;
  const elementType = elementTypeOf(types, output);
  if (rank === undefined || elementType === undefined || !isFloatType(elementType)) {
    return { label, reason: "the type or rank of its output is unknown" };
  }
  const channelAxis = resolveAxis(outputAxis, rank);
  const axisFromEnd = channelAxis - rank;
  const value = biasedOutput(float, types, output, axisFromEnd);
  const activation = onlyConsumer(float, value);
  const limits = activation?.inputs[0] === value ? limitsOf(float, activation) : undefined;
  return { label, value, output: value, product: output, limits, rank, channelAxis, axisFromEnd, elementType, tau };
}

function fitLines({ tau }: AffineSite, [one, other, whole]: readonly ChannelSums[]): Outcome<Solution> {
  if (whole.count.length === 0) return { kind: "skipped", reason: "its output was empty on every sample" };
  if (one.count.length === 0 || other.count.length === 0) {
    return { kind: "skipped", reason: "all samples ran at once: nothing is left to judge a line on" };
  }
  const solution = [one, other, whole].map((sums) => lineOf(sums, tau));
  const areFinite = solution.every(({ gain, offset }) => [...gain, ...offset].every(Number.isFinite));
  return areFinite ? { kind: "refine", solution } : { kind: "skipped", reason: "its output error is not finite" };
}

/** γ = 1 + cov(q, e) / ((1 + τ) var q), β what the means ask for. */
export function lineOf({ count, q, e, qq, qe }: ChannelSums, tau: number): ChannelLines {
  const gain = q.map((sum, c) => {
    const variance = qq[c] - (sum * sum) / count[c];
    if (!(variance > noVariance * qq[c])) return 1;
    // A weight's scale is positive.
    return Math.max(1 + (qe[c] - (sum * e[c]) / count[c]) / ((1 + tau) * variance), 1e-3);
  });
  // The mean of q' is that of q + e.
  const offset = gain.map((factor, c) => (q[c] + e[c] - factor * q[c]) / count[c]);
  return { gain, offset };
}

function decide({ before, after }: ChannelTrial, rounds: readonly Round<Found, Solution>[]): Outcome<Solution> {
  const { gain, offset } = rounds[0].solution[2];
  const helps = before.map((error, c) => (after[c] < (1 - leastGain) * error ? 1 : 0));
  const kept = helps.reduce((sum, one) => sum + one, 0);
  const [errorBefore, errorAfter] = [before, before.map((error, c) => (helps[c] ? after[c] : error))].map(average);
  if (kept === 0 || !(errorAfter < errorBefore)) {
    return { kind: "skipped", reason: "on samples held back no line lowers the error of a channel by 1 %" };
  }
  const lines = {
    gain: gain.map((factor, c) => (helps[c] ? factor : 1)),
    offset: offset.map((value, c) => (helps[c] ? value : 0)),
  };
  const remark = `lines for ${kept} of ${gain.length} channels`;
  return { kind: "solved", solution: [lines], errorBefore, errorAfter, remark };
}

function average(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
