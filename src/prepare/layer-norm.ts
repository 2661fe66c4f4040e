import { type ChannelMoments, ChannelMomentsStatistic } from "../calibrate/channel-moments.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { labelOf, withInputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { extremesOf } from "../math/extremes.js";
import { findLayers } from "../operators/index.js";
import type { Layer } from "../operators/layer.js";
import { type ChannelParameter, findNormalization, type Normalization } from "../operators/normalization.js";
import type { LayerPlan } from "../quantize/choose-layers.js";
import { defineStep } from "../step/open-step.js";
import type { Option } from "../step/options.js";
import type { Outcome, Site, UnusableSite } from "../step/step.js";
import { float64Values, floatTensor, type Tensor } from "../tensor/tensor.js";
import { type ChannelChange, inputObstacle, rewriteInputs } from "./rewrite-inputs.js";

interface NormalizationSite extends Site {
  readonly normalization: Normalization;
  readonly readers: readonly Layer[];
  readonly rank: number;
  readonly exponent: number;
}

/** A `ChannelChange` as plain data. */
interface Solution {
  readonly shifts: readonly number[];
  readonly scales: readonly number[];
}

const options = {
  exponent: {
    kind: "number",
    help: "how far the ranges of the channels are brought together: 0 leaves them, 1 makes them equal",
    default: 1,
    least: 0,
    most: 1,
  },
} as const satisfies Record<string, Option>;

/** Channels that hardly vary are not spread over the grid as if their noise mattered. */
const narrowest = 1e-3;

/**
 * Brings the channels of normalized values to one range, so that one scale serves them all: each is shifted by the middle of its
 * range and divided by half its width. Normalizations do so at no cost, by their gain and by what they add; the layers
 * that read them multiply and add it back in weights and biases. Where a normalization adds nothing, as RMSNorm, channels
 * are scaled only.
 *
 * @see Li et al., RepQ-ViT, arXiv:2212.08254, section 3.2; docs/methods/layer-norm.md
 */
export const layerNormReparametrization = defineStep<
  typeof options,
  NormalizationSite,
  readonly [ChannelMoments],
  Solution
>({
  name: "layernorm",
  summary: "brings the channels of normalized values to one range (free; for transformers below 8 bits)",
  outcome: "normalizations with channels on one range",
  options,
  sites: ({ float, types, plans }, { exponent }) => sitesOf(float, types, plans, exponent),
  statistics: ({ value, rank }) => [new ChannelMomentsStatistic({ from: "float", value }, rank, rank - 1)],
  solve,
  rewrite,
});

function sitesOf(graph: Graph, types: ValueTypes, plans: readonly LayerPlan[], exponent: number) {
  const layers = findLayers(graph, types).layers;
  const usable: NormalizationSite[] = [];
  const unusable: UnusableSite[] = [];
  for (const value of graph.nodes.flatMap((node) => node.outputs)) {
    const normalization = findNormalization(graph, value);
    if (normalization === undefined) continue;
    const readers = layers.filter(({ data }) => data === value);
    const label = labelOf(normalization.gain.node);
    const rank = shapeOf(types, value)?.length;
    const reason = obstacleOf(graph, value, readers, plans);
    if (reason !== undefined) unusable.push({ label, reason });
    else if (rank === undefined) unusable.push({ label, reason: "the rank of its output is not known" });
    else usable.push({ label, value, normalization, readers, rank, exponent });
  }
  return { usable, unusable };
}

/** Why the layers behind a normalization cannot undo what is done to its channels. */
function obstacleOf(
  graph: Graph,
  value: ValueName,
  readers: readonly Layer[],
  plans: readonly LayerPlan[],
): string | undefined {
  if (graph.isOutput(value)) return "it is an output of the model";
  const other = graph.consumers(value).find((node) => !readers.some((reader) => reader.node === node));
  if (other !== undefined) return `${labelOf(other)} reads it, which is no layer`;
  const isOnGrid = plans.some(({ layer, activation }) => layer.data === value && activation !== "float");
  if (!isOnGrid) return "no layer reads it on a grid";
  for (const reader of readers) {
    const obstacle = inputObstacle(graph, reader);
    if (obstacle !== undefined) return `${labelOf(reader.node)}: ${obstacle}`;
  }
  return undefined;
}

/** Errors are those of 256 levels over all values. */
function solve(
  { normalization: { shift }, exponent }: NormalizationSite,
  [{ count, lows, highs }]: readonly [ChannelMoments],
): Outcome<Solution> {
  if (count === 0) return { kind: "skipped", reason: "its values were empty on every sample" };
  const canShift = shift !== undefined;
  const shifts = Array.from(lows, (low, c) => (canShift ? (low + highs[c]) / 2 : 0));
  const halves = Array.from(highs, (high, c) => Math.max(high - shifts[c], shifts[c] - lows[c]));
  const widest = extremesOf(halves).high;
  if (widest === 0) return { kind: "skipped", reason: "its values are the same on every sample" };
  const raw = halves.map((half) => Math.max(half / widest, narrowest) ** exponent);
  // Weights stay about as large as they are.
  const mean = Math.exp(raw.reduce((sum, scale) => sum + Math.log(scale), 0) / raw.length);
  const scales = raw.map((scale) => scale / mean);
  const width = (least: Float64Array, most: Float64Array) =>
    Math.max(extremesOf(most).high, 0) - Math.min(extremesOf(least).low, 0);
  const before = width(lows, highs);
  const changed = (values: Float64Array) => values.map((value, c) => (value - shifts[c]) / scales[c]);
  const after = width(changed(lows), changed(highs));
  const spread = scales.reduce((sum, scale) => sum + scale ** 2, 0) / scales.length;
  const errorOf = (range: number) => (range / 255) ** 2 / 12;
  const solution = { shifts, scales };
  return { kind: "solved", solution, errorBefore: errorOf(before), errorAfter: errorOf(after) * spread };
}

function rewrite(graph: Graph, site: NormalizationSite, { shifts, scales }: Solution): GraphPatch {
  const change = { shifts: Float64Array.from(shifts), scales: Float64Array.from(scales) };
  const writer = new PatchWriter(createNameSource(graph));
  const remove = [
    ...rewriteNormalization(graph, writer, site.value, change),
    ...rewriteInputs(graph, writer, site.readers, change),
  ];
  return writer.finish(`channels of ${site.label} on one range`, { remove });
}

/** gain' = gain / scale, and (added - shift) / scale. */
function rewriteNormalization(
  graph: Graph,
  writer: PatchWriter,
  value: ValueName,
  { shifts, scales }: ChannelChange,
): readonly Node[] {
  const { gain, shift } = findNormalization(graph, value) as Normalization;
  const gains = graph.constant(gain.node.inputs[gain.input]) as Tensor;
  const divided = float64Values(gains).map((one, c) => one / scales[c]);
  const changed = withInput(gain, writer.constant(`${value}_gain`, floatTensor(gains.type, gains.shape, divided)));
  if (shift === undefined) {
    writer.add(changed);
    return [gain.node];
  }
  const added = graph.constant(shift.node.inputs[shift.input] ?? "");
  const before = added === undefined ? new Float64Array(scales.length) : float64Values(added);
  const moved = before.map((one, c) => (one - shifts[c]) / scales[c]);
  const name = writer.constant(`${value}_shift`, floatTensor(gains.type, added?.shape ?? gains.shape, moved));
  if (shift.node === gain.node) {
    writer.add(withInput({ node: changed, input: shift.input }, name));
    return [gain.node];
  }
  writer.add(changed);
  writer.add(withInput(shift, name));
  return [gain.node, shift.node];
}

/** @param parameter an input that the node reads, or the first that it does not */
function withInput({ node, input }: ChannelParameter, value: ValueName): Node {
  return withInputs(node, [...node.inputs.slice(0, input), value, ...node.inputs.slice(input + 1)]);
}
