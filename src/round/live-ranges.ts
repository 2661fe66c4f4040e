import type { Block } from "../blocks/blocks.js";
import { HistogramStatistic } from "../calibrate/histogram.js";
import { MovingAverageStatistic } from "../calibrate/moving-average.js";
import { RangeStatistic } from "../calibrate/range.js";
import type { Tap } from "../calibrate/statistic.js";
import type { Graph, ValueName } from "../graph/graph.js";
import type { GraphPatch } from "../graph/patch.js";
import { valuesBehind } from "../graph/values-behind.js";
import type { Distribution, Observed, Range } from "../math/distribution.js";
import type { ActivationSite } from "../quantize/choose-activations.js";
import { estimateRange } from "../quantize/estimate-ranges.js";
import { errorOnLevels } from "../quantize/estimators/estimator.js";
import { type ActivationGrid, chooseActivationGrid, levelsOfGrid } from "../quantize/grid.js";
import { type ActivationGroup, uniteRanges } from "../quantize/group-activations.js";
import type { QuantizedGroup } from "../quantize/quantize.js";
import { gridTensors } from "../quantize/write-activations.js";
import { type AnyStep, defineStep } from "../step/open-step.js";
import type { Outcome, Site, StatisticsOf, StepContext, UnusableSite } from "../step/step.js";

interface RangeSite<Group extends ActivationGroup> extends Site {
  readonly float: Graph;
  readonly group: Group;
}

/** How the range of a group stands in the network. */
export interface RangeWriting<Group extends ActivationGroup> {
  write(graph: Graph, group: Group, grid: ActivationGrid): Pick<GraphPatch, "remove" | "add" | "initializers">;
  /** The value that is rounded where a value of the group is: itself, or what an output of the network is rounded from. */
  roundedFrom(group: Group, value: ValueName): ValueName;
  /** The share of its squared error that a range has to leave off to take the place of the one before, if any. */
  readonly leastGain?: number;
  /** Whether a group keeps the range that it has and is given what its values need besides. */
  onlyGrows(group: Group): boolean;
}

/** Ranges as Recoup writes them: they were found in another network and do not hold in this one. */
const ownWriting: RangeWriting<QuantizedGroup> = {
  write: (_graph, { parameters }, grid) => ({ initializers: gridTensors(parameters, grid) }),
  roundedFrom: (_group, value) => value,
  onlyGrows: () => false,
};

export const rangesName = "ranges";

/** Of each value of a group: its extremes, how its values lie, and the moving average of the extremes. */
type Found = readonly (Range | Distribution)[];
const statisticsPerValue = 3;

/**
 * Looks for the ranges of activations again where the network is quantized up to there: what earlier layers made of the
 * values is what the grid has to hold. Values that share a grid are looked at together, once the last of them is there.
 *
 * @param groups those whose ranges shall come from the quantized network
 * @param blocks of the walk: only what lies in one block can be looked at together
 */
export function liveRanges(groups: readonly QuantizedGroup[], blocks: readonly Block[]): AnyStep {
  return fitRanges(groups, blocks, ownWriting);
}

/** As `liveRanges`, for grids that stand in the network in any way. */
export function fitRanges<Group extends ActivationGroup>(
  groups: readonly Group[],
  blocks: readonly Block[],
  writing: RangeWriting<Group>,
): AnyStep {
  return defineStep<Record<never, never>, RangeSite<Group>, Found, Range>({
    name: rangesName,
    options: {},
    outcome: "grids of activations fitted again",
    summary: "looks for the ranges of activations again where the network is quantized up to there",
    sites: (context) => sitesOf(context, groups, blocks),
    statistics: ({ group }) => group.sites.flatMap(({ value }) => lookAt(writing.roundedFrom(group, value))),
    solve: (site, found) => solve(site, found, writing.leastGain, writing.onlyGrows(site.group)),
    rewrite: (graph, { group, value }, range) => ({
      label: `range of ${value}`,
      ...writing.write(graph, group, gridOf(group, range)),
    }),
  });
}

/** A group is looked at where the last of its values is computed; what is fed is the same in both networks. */
function sitesOf<Group extends ActivationGroup>(
  { float }: StepContext,
  groups: readonly Group[],
  blocks: readonly Block[],
) {
  const places = new Map(float.nodes.flatMap((node, i) => node.outputs.map((output) => [output, i] as const)));
  const blockOf = new Map(blocks.flatMap(({ nodes }, i) => nodes.flatMap((n) => n.outputs.map((value) => [value, i]))));
  const inOrder = ({ sites }: Group) =>
    sites.map(({ value }) => value).sort((a, b) => (places.get(a) ?? -1) - (places.get(b) ?? -1));
  const usable: RangeSite<Group>[] = [];
  const unusable: UnusableSite[] = [];
  for (const whole of groups) {
    const group = withoutSelections(whole);
    const values = inOrder(group);
    const last = values[values.length - 1];
    if (!places.has(last)) continue;
    const isNear = (value: ValueName) => blockOf.get(value) === blockOf.get(last);
    const value = meetingOf(float, values, inOrder(whole).filter(isNear)) ?? last;
    if (values.every(isNear)) usable.push({ label: value, value, float, group });
    else unusable.push({ label: value, reason: "it shares its grid with values of other blocks" });
  }
  return { usable, unusable };
}

/**
 * The first of some candidates that depends on all of some values, as a Concat does. The value whose node comes last need
 * not be the one that most layers lie above.
 */
function meetingOf(
  graph: Graph,
  values: readonly ValueName[],
  candidates: readonly ValueName[],
): ValueName | undefined {
  if (values.length === 1) return values[0];
  const reached = values.map((value) => valuesBehind(graph.nodes, [value]));
  return candidates.find((candidate) => reached.every((behind) => behind.has(candidate)));
}

/** What only selects elements of other values of the group, as Concat and MaxPool do, tells nothing new. */
function withoutSelections<Group extends ActivationGroup>(group: Group): Group {
  const members = new Set(group.sites.map(({ value }) => value));
  const isSelection = ({ selectedFrom }: ActivationSite) =>
    selectedFrom.length > 0 && selectedFrom.every((source) => members.has(source));
  const sites = group.sites.filter((site) => !isSelection(site));
  return sites.length === 0 ? group : { ...group, sites };
}

function lookAt(value: ValueName): StatisticsOf<Found> {
  const tap: Tap = { from: "current", value };
  return [new RangeStatistic(tap), new HistogramStatistic(tap), new MovingAverageStatistic(tap)] as StatisticsOf<Found>;
}

function solve(
  { float, group }: RangeSite<ActivationGroup>,
  found: Found,
  leastGain: number | undefined,
  onlyGrows: boolean,
): Outcome<Range> {
  const observed = group.sites.map((_, i): Observed => {
    const [extremes, distribution, average] = found.slice(i * statisticsPerValue, (i + 1) * statisticsPerValue);
    return {
      extremes: extremes as Range,
      distribution: distribution as Distribution,
      averageExtremes: average as Range,
    };
  });
  if (observed.some(({ extremes }) => extremes.low > extremes.high)) {
    return { kind: "skipped", reason: "its values were empty on every sample" };
  }
  const ranges = group.sites.map((site, i) => estimateRange(float, site, observed[i]));
  const solution = onlyGrows
    ? uniteRanges([group.range, ...observed.map(({ extremes }) => extremes)])
    : uniteRanges(ranges);
  const errorBefore = roundingError(group, group.range, observed);
  const errorAfter = roundingError(group, solution, observed);
  if (leastGain !== undefined && !(errorAfter <= (1 - leastGain) * errorBefore)) {
    return { kind: "skipped", reason: "its grid fits as well as any" };
  }
  return { kind: "solved", solution, errorBefore, errorAfter };
}

/** Mean squared error of the values of a group on the grid that covers a range. */
function roundingError(group: ActivationGroup, range: Range, observed: readonly Observed[]): number {
  const levels = levelsOfGrid(gridOf(group, range));
  const distributions = observed.flatMap(({ distribution }) => distribution ?? []);
  const error = distributions.reduce((sum, one) => sum + errorOnLevels(one, levels), 0);
  return error / distributions.reduce((sum, one) => sum + one.count, 0);
}

function gridOf({ format, spacing }: ActivationGroup, range: Range): ActivationGrid {
  return chooseActivationGrid(range, format.bits, format.symmetric, spacing);
}
