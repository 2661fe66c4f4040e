import { type ChannelMoments, ChannelMomentsStatistic } from "../calibrate/channel-moments.js";
import { type ChannelRows, ChannelRowsStatistic } from "../calibrate/channel-rows.js";
import type { Graph, ValueName } from "../graph/graph.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { spendBudget } from "../math/spend-budget.js";
import type { LayerPlan } from "../quantize/choose-layers.js";
import { rangeEstimators } from "../quantize/estimators/index.js";
import { defineStep } from "../step/open-step.js";
import type { Option } from "../step/options.js";
import type { Outcome, Site } from "../step/step.js";
import { elementCount, resolveAxis } from "../tensor/shape.js";
import { planSplits, planWithoutSplits } from "./plan-splits.js";
import { foldedDifference, rangesOfSplits, rewriteSplits, type SplitSite, type Splits } from "./rewrite-splits.js";
import {
  type ActivationGridWish,
  activationWishes,
  rewriteActivations,
  solveActivations,
} from "./split-activations.js";
import type { SplitRule } from "./split-columns.js";
import { type SplitReader, type SplittableWeight, splittableWeights } from "./split-site.js";
import { toColumns } from "./weight-columns.js";
import { findWidening, type Widening } from "./widen-producer.js";

interface OcsSite extends Site, SplitSite {
  readonly clip: string;
  readonly rule: SplitRule;
  /** Activations whose channels say what an error counts; none where every error counts the same. */
  readonly inputs: readonly { readonly value: ValueName; readonly rank: number; readonly axis: number }[];
  /** What layers before hold for one more channel, where they have rows for the copies. */
  readonly weightsPerCopy: number;
  /** The grid of the layer's input where that is split instead of the weight. */
  readonly activation?: Extract<ActivationGridWish, { readonly format: unknown }>;
}

const options = {
  of: {
    kind: "choice",
    help: "what is halved: weights, or activations (the weights of the copies are whole then)",
    default: "weights",
    choices: ["weights", "activations"],
  },
  ratio: {
    kind: "number",
    help: "share of the input channels of a layer that is split, at least one of them",
    default: 0.05,
    least: 0,
    most: 1,
  },
  spend: {
    kind: "choice",
    help: "evenly: the ratio in every layer; best: so many weights in all, where they lower the error most",
    default: "evenly",
    choices: ["evenly", "best"],
  },
  split: {
    kind: "choice",
    help: "aware: halves that round to the same sum as the whole; naive: equal halves",
    default: "aware",
    choices: ["aware", "naive"],
  },
  repeat: { kind: "switch", help: "whether a channel that was split may be split again", default: true },
  clip: {
    kind: "choice",
    help: "how the weight's grid ends: folded (the smallest error of what the halves add up to) or a range estimator",
    default: "folded",
    choices: ["folded", ...rangeEstimators.map(({ name }) => name)],
  },
  by: {
    kind: "choice",
    help: "which error counts: outputs (weighted with the mean square of the input channel) or weights",
    default: "outputs",
    choices: ["outputs", "weights"],
  },
  first: { kind: "switch", help: "whether layers that read the network's input are split too", default: false },
} as const satisfies Record<string, Option>;

/**
 * Outlier channel splitting: input channels whose weights are the largest are duplicated and their weights divided
 * over the copies. The layer computes the same; the largest weight and with it the step of the grid become smaller. Of activations: the values of the channels that reach furthest
 * are divided over the copies, and their weights are there twice.
 *
 * @see Zhao et al., Improving Neural Network Quantization without Retraining using Outlier Channel Splitting,
 * arXiv:1901.09504; docs/methods/ocs.md
 */
export const outlierChannelSplitting = defineStep<
  typeof options,
  OcsSite,
  readonly (ChannelMoments | ChannelRows)[],
  Splits
>({
  name: "ocs",
  summary: "outlier channel splitting: halves the input channels with the largest weights (costs weights and time)",
  outcome: "weights split",
  isTried: true,
  options,
  sites({ float, types, plans }, { of, ratio, spend, split, repeat, clip, by, first }) {
    const { usable, unusable } = splittableWeights(float, plans, first);
    if (of === "activations") {
      const wishes = activationWishes(float, types, plans, usable);
      const described = usable.map((found, i) => ({ found, wish: wishes[i] }));
      return {
        usable: described.flatMap(({ found, wish }): readonly OcsSite[] => {
          if ("reason" in wish) return [];
          const rule = { count: countOf(found, ratio), split, again: repeat };
          return [
            {
              ...found,
              value: found.weight,
              clip,
              inputs: inputsOf(types, found),
              widenings: [],
              weightsPerCopy: 0,
              rule,
              activation: wish,
            },
          ];
        }),
        unusable: [
          ...unusable,
          ...described.flatMap(({ found: { label }, wish }) =>
            "reason" in wish ? [{ label, reason: wish.reason }] : [],
          ),
        ],
      };
    }
    const plain = usable.map((found): OcsSite => {
      const rule = { count: countOf(found, ratio), split, again: repeat };
      const inputs = by === "outputs" ? inputsOf(types, found) : [];
      return { ...found, value: found.weight, clip, inputs, widenings: [], weightsPerCopy: 0, rule };
    });
    const sites = spend === "best" ? withCounts(plain, ratio) : plain;
    const weights = usable.map(({ weight }) => weight);
    return {
      usable: sites.map((site, i) => {
        // A weight that is split later has to have its own columns then.
        const found = site.readers.map((reader) => {
          const widening = usableWidening(float, site, reader, plans);
          return widening === undefined || weights.indexOf(widening.weight) > i ? undefined : widening;
        });
        const weightsPerCopy = found.reduce((sum, widening) => sum + (widening?.weightsPerChannel ?? 0), 0);
        return { ...site, widenings: found.map((widening) => widening?.weight), weightsPerCopy };
      }),
      unusable,
    };
  },
  statistics({ inputs, tensor, layout, activation }) {
    const moments = inputs.map(
      ({ value, rank, axis }) => new ChannelMomentsStatistic({ from: "float", value }, rank, axis),
    );
    if (activation === undefined) return moments;
    const channels = tensor.shape[layout.inputAxis] * layout.groups;
    const rows = inputs.map(
      ({ value, rank, axis }) => new ChannelRowsStatistic({ from: "float", value }, rank, axis, channels),
    );
    return [...moments, ...rows];
  },
  solve(site, found) {
    const count = site.inputs.length;
    const moments = found.slice(0, count) as readonly ChannelMoments[];
    if (site.activation === undefined) return solveWeights(site, moments);
    const rows = found.slice(count) as readonly ChannelRows[];
    return solveActivations(site.activation, site, { moments, rows }, site.rule);
  },
  rewrite: (graph, site, splits) =>
    site.activation === undefined
      ? rewriteSplits(graph, site, splits)
      : rewriteActivations(graph, site, splits, site.activation.elementType),
  weightRanges: (site, splits, known) =>
    site.activation === undefined ? rangesOfSplits(site, splits, known) : new Map(),
});

/** Splits in each group. */
function countOf({ tensor, layout }: SplittableWeight, ratio: number): number {
  return Math.ceil(ratio * tensor.shape[layout.inputAxis]);
}

/** Parts and multiples of the ratio that a layer may get where the budget is spent. */
const shares = [0.25, 0.5, 1, 2, 4];

/** Spends what an even ratio would cost where the relative error of the weights falls most per added weight. */
function withCounts(sites: readonly OcsSite[], ratio: number): readonly OcsSite[] {
  const costOf = ({ tensor, layout }: OcsSite, count: number) =>
    (count * elementCount(tensor.shape)) / tensor.shape[layout.inputAxis];
  const counts = sites.map((site) => [...new Set([0, ...shares.map((share) => countOf(site, share * ratio))])]);
  const offers = sites.map((site, i) => {
    const weight = toColumns(site.tensor, site.layout);
    const power = weight.groups.reduce((sum, { columns }) => sum + powerOf(columns), 0);
    const task = { weight, format: site.format, clip: site.clip };
    const plain = planWithoutSplits(task);
    const errors = counts[i].map((count) => planSplits(task, plain, { ...site.rule, count }).error / power);
    return { costs: counts[i].map((count) => costOf(site, count)), errors };
  });
  const budget = sites.reduce((sum, site) => sum + ratio * elementCount(site.tensor.shape), 0);
  const places = spendBudget(offers, budget);
  return sites.map((site, i) => ({ ...site, rule: { ...site.rule, count: counts[i][places[i]] } }));
}

function powerOf(columns: readonly Float64Array[]): number {
  return columns.reduce((sum, column) => column.reduce((total, value) => total + value ** 2, sum), 0);
}

/** Bytes that a Gather takes besides its list, about. */
const nodeBytes = 64;

function usableWidening(
  graph: Graph,
  { tensor, layout, isRecurrent, rule: { count } }: OcsSite,
  { data, dataAxis }: SplitReader,
  plans: readonly LayerPlan[],
): Widening | undefined {
  if (isRecurrent || layout.groups > 1 || dataAxis === -2) return undefined;
  const found = findWidening(graph, data, dataAxis);
  if (found === undefined) return undefined;
  const bits = plans.find(({ layer }) => layer.weight === found.weight)?.weight.bits ?? 32;
  const rowBytes = (count * found.weightsPerChannel * bits) / 8;
  const listBytes = 4 * (tensor.shape[layout.inputAxis] + count) + nodeBytes;
  return rowBytes <= listBytes ? found : undefined;
}

/** None where the channels of an activation cannot be told apart, or are the layer's own. */
function inputsOf(types: ValueTypes, { readers, isRecurrent }: SplittableWeight): OcsSite["inputs"] {
  const inputs = readers.map(({ data, dataAxis }) => {
    const rank = shapeOf(types, data)?.length;
    return rank === undefined ? undefined : { value: data, rank, axis: resolveAxis(dataAxis, rank) };
  });
  return isRecurrent || inputs.includes(undefined) ? [] : (inputs as OcsSite["inputs"]);
}

/** What an error in each column counts: the mean square of what it is multiplied with, over all readers. */
function importanceOf(
  { tensor, layout }: OcsSite,
  found: readonly ChannelMoments[],
): readonly Float64Array[] | undefined {
  const channels = tensor.shape[layout.inputAxis];
  const isKnown = ({ meanSquares }: ChannelMoments) =>
    meanSquares.length === channels * layout.groups &&
    meanSquares.every(Number.isFinite) &&
    meanSquares.some((mean) => mean > 0);
  if (found.length === 0 || !found.every(isKnown)) return undefined;
  return Array.from({ length: layout.groups }, (_, group) =>
    Float64Array.from({ length: channels }, (_, c) =>
      found.reduce((sum, { meanSquares }) => sum + meanSquares[group * channels + c], 0),
    ),
  );
}

/** The largest difference between a weight and what its copies add up to, as a share of its largest value. */
const sameWeight = 1e-5;
const sameHalfWeight = 1e-2;

function solveWeights(site: OcsSite, found: readonly ChannelMoments[]): Outcome<Splits> {
  const { tensor, layout, format, clip, rule } = site;
  const weight = toColumns(tensor, layout);
  const task = { weight, format, clip, importance: importanceOf(site, found) };
  const plain = planWithoutSplits(task);
  const plan = planSplits(task, plain, rule);
  const count = elementCount(tensor.shape);
  const [errorBefore, errorAfter] = [plain.error / count, plan.error / count];
  if (errorAfter >= errorBefore) return { kind: "skipped", reason: "no split lowers the error of its weight" };
  const { pieces, scales, ends } = plan;
  const difference = foldedDifference(site, plan);
  if (difference > (tensor.type === "float32" ? sameWeight : sameHalfWeight)) {
    return {
      kind: "skipped",
      reason: `the copies do not add up to its weight: ${difference.toPrecision(2)} of it is missing`,
    };
  }
  return {
    kind: "solved",
    solution: { pieces, scales, ends },
    errorBefore,
    errorAfter,
    remark: remarkOf(site, pieces),
  };
}

function remarkOf({ tensor, layout, isRecurrent, weightsPerCopy }: OcsSite, pieces: Splits["pieces"]): string {
  const channels = tensor.shape[layout.inputAxis];
  const copies = pieces[0].length - channels;
  if (copies === 0) return "nothing is split: the ends of its grid alone lower the error";
  const what = `${copies} ${isRecurrent ? "hidden units" : "input channels"} more${layout.groups > 1 ? " in each group" : ""}`;
  const added = (elementCount(tensor.shape) * copies) / channels;
  const share = ((100 * copies) / channels).toFixed(1);
  // Layers before may have more columns by then, for copies of their own.
  const rows = weightsPerCopy > 0 ? `; about ${copies * weightsPerCopy} more where its input is computed` : "";
  return `${what}: ${added} more weights (${share} %), so many more multiplications for each vector or place${rows}`;
}
