import type { ChannelMoments } from "../calibrate/channel-moments.js";
import type { ChannelRows } from "../calibrate/channel-rows.js";
import type { Graph, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { withInputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import type { ValueTypes } from "../graph/value-types.js";
import { elementTypeOf } from "../graph/value-types.js";
import { distributionOf } from "../math/distribution.js";
import { extremesOf } from "../math/extremes.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { chooseActivations } from "../quantize/choose-activations.js";
import type { LayerPlan } from "../quantize/choose-layers.js";
import { gridOf } from "../quantize/estimate-ranges.js";
import type { ActivationFormat } from "../quantize/format.js";
import type { ActivationGrid } from "../quantize/grid.js";
import type { Outcome } from "../step/step.js";
import type { ElementType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { floatTensor, int32Tensor } from "../tensor/tensor.js";
import { constantOf, producerOf, type Splits, sourcesOf, splitTensor } from "./rewrite-splits.js";
import { columnsOf, type Piece, type SplitRule, splitLargest, wholePieces } from "./split-columns.js";
import type { SplittableWeight } from "./split-site.js";
import { type GroupColumns, toColumns } from "./weight-columns.js";

/** The grid of the activation that a layer reads, or why its channels are not split. */
export type ActivationGridWish =
  | { readonly format: ActivationFormat; readonly elementType: ElementType }
  | { readonly reason: string };

/** What to make of the inputs of layers, in the order of the weights. */
export function activationWishes(
  graph: Graph,
  types: ValueTypes,
  plans: readonly LayerPlan[],
  weights: readonly SplittableWeight[],
): readonly ActivationGridWish[] {
  const demands = plans.flatMap(({ layer, activation }) =>
    activation === "float" || layer.data === undefined
      ? []
      : [{ node: layer.node, values: [layer.data], format: activation }],
  );
  const sites = new Map(chooseActivations(graph, types, demands).map((site) => [site.value, site]));
  return weights.map(({ readers, isRecurrent }): ActivationGridWish => {
    if (isRecurrent) return { reason: "its input channels are its own hidden units" };
    const wishes = readers.map((reader): ActivationGridWish => {
      const elementType = elementTypeOf(types, reader.data);
      const demand = demands.find(({ node }) => node.outputs.includes(reader.output));
      if (demand === undefined || elementType === undefined) return { reason: "its activations stay in float" };
      // Halves of codes are no finer than the codes.
      if (demand.format.bits === 8 && sites.get(reader.data)?.isIntegerOutput === true) {
        return { reason: "its input comes out of an integer kernel in 8 bits: halves of it would be no finer" };
      }
      return { format: demand.format, elementType };
    });
    return wishes.find((wish) => "reason" in wish) ?? wishes[0];
  });
}

/** What was seen of the input of a layer, for each of its readers. */
export interface SeenInputs {
  readonly moments: readonly ChannelMoments[];
  readonly rows: readonly ChannelRows[];
}

/**
 * Chooses the channels with the largest values on calibration samples. Errors are those at the output, of the grid that the
 * estimator of the format finds on one half of the runs, on the other half: a channel counts as much as its weights.
 */
export function solveActivations(
  { format }: { readonly format: ActivationFormat },
  { tensor, layout }: SplittableWeight,
  { moments, rows }: SeenInputs,
  rule: SplitRule,
): Outcome<Splits> {
  const channels = tensor.shape[layout.inputAxis];
  const all = channels * layout.groups;
  const isKnown = ({ lows, highs }: ChannelMoments) =>
    lows.length === all && [...lows, ...highs].every(Number.isFinite);
  const isSeen = moments.length > 0 && moments.every(isKnown) && rows.every((own) => own.channels === all);
  if (!isSeen) return { kind: "skipped", reason: "the channels of its input were not seen on any sample" };
  const groups = Array.from({ length: layout.groups }, (_, group) => groupOf(moments, group * channels, channels));
  const whole = groups.map(wholePieces);
  const halves = [0, 1].map((half) => rows.map((own) => own.halves[half]));
  const everything = halves.flat();
  const gridOn = (values: readonly Float32Array[], pieces: readonly (readonly Piece[])[], scale: number) =>
    findGrid(format, groups, { values, channels, pieces, scale });
  const split = (scale: number) => groups.map((group) => splitLargest(group, 2, [scale], rule));
  const before = gridOn(everything, whole, 0).scale;
  const scale = gridOn(everything, split(before), before).scale;
  const pieces = split(scale);
  const powers = weightPowers({ tensor, layout });
  // With a single run there is no other half.
  const folds = halves[1].some((values) => values.length > 0)
    ? [halves, [halves[1], halves[0]]]
    : [[halves[0], halves[0]]];
  const errorOf = (own: readonly (readonly Piece[])[]) => {
    const errors = folds.map(([fitted, held]) =>
      foldedError(gridOn(fitted, own, scale), held, channels, own, scale, powers),
    );
    return errors.reduce((sum, error) => sum + error, 0) / errors.length;
  };
  const [errorBefore, errorAfter] = [errorOf(whole), errorOf(pieces)];
  if (!(errorAfter < errorBefore)) {
    const figures = `${errorBefore.toPrecision(3)} to ${errorAfter.toPrecision(3)}`;
    return { kind: "skipped", reason: `on samples held back halves would not lower the error: ${figures}` };
  }
  const copies = pieces[0].length - channels;
  const added = (elementCount(tensor.shape) * copies) / channels;
  const share = ((100 * copies) / channels).toFixed(1);
  return {
    kind: "solved",
    solution: { pieces, scales: [scale], ends: [] },
    errorBefore,
    errorAfter,
    remark: `${copies} channels of its input more: ${added} more weights (${share} %) and two operations in float`,
  };
}

/** Values of a layer's input, `[rows, groups · channels]` each, and how their channels are split. */
interface SplitInput {
  readonly values: readonly Float32Array[];
  readonly channels: number;
  readonly pieces: readonly (readonly Piece[])[];
  /** That the offsets of the pieces are in. */
  readonly scale: number;
}

/** The grid that the estimator of a format finds for what the copies hold. */
function findGrid(
  format: ActivationFormat,
  groups: readonly GroupColumns[],
  { values, channels, pieces, scale }: SplitInput,
): ActivationGrid {
  const parts = flatten(pieces, channels);
  const width = channels * pieces.length;
  const rows = values.reduce((sum, own) => sum + own.length, 0) / width;
  const copies = new Float32Array(rows * parts.length);
  let at = 0;
  forEachRow(values, width, (own, start) => {
    for (const { source, share, offset } of parts) copies[at++] = share * own[start + source] + offset * scale;
  });
  const extremes = groups.flatMap((group, i) =>
    columnsOf(group, 2, [scale], pieces[i]).flatMap((column) => [...column]),
  );
  const range = extremesOf(extremes);
  const observed = { extremes: range, averageExtremes: range, distribution: distributionOf(copies.sort()) };
  return gridOf(format, observed);
}

/** Mean over the rows of the squared differences between what channels hold and what their rounded copies add up to. */
function foldedError(
  { scale: step, zeroPoint, bits }: ActivationGrid,
  values: readonly Float32Array[],
  channels: number,
  pieces: readonly (readonly Piece[])[],
  scale: number,
  powers: Float64Array,
): number {
  const parts = flatten(pieces, channels);
  const width = channels * pieces.length;
  const sums = new Float64Array(width);
  let [error, rows] = [0, 0];
  forEachRow(values, width, (own, start) => {
    sums.fill(0);
    for (const { source, share, offset } of parts) {
      const code = roundHalfEven((share * own[start + source] + offset * scale) / step) + zeroPoint;
      sums[source] += (clamp(code, 0, 2 ** bits - 1) - zeroPoint) * step;
    }
    for (let channel = 0; channel < width; channel++) {
      error += powers[channel] * (own[start + channel] - sums[channel]) ** 2;
    }
    rows++;
  });
  return error / Math.max(rows, 1);
}

/** The pieces of all groups, one behind the other, with their sources counted over all groups. */
function flatten(pieces: Splits["pieces"], channels: number): readonly Piece[] {
  const sources = sourcesOf(pieces, channels);
  return pieces.flat().map((piece, i) => ({ ...piece, source: sources[i] }));
}

function forEachRow(
  values: readonly Float32Array[],
  width: number,
  visit: (values: Float32Array, start: number) => void,
): void {
  for (const own of values) for (let start = 0; start < own.length; start += width) visit(own, start);
}

/** The sum of the squared weights of each input channel, over all groups one behind the other. */
function weightPowers({ tensor, layout }: Pick<SplittableWeight, "tensor" | "layout">): Float64Array {
  return Float64Array.from(
    toColumns(tensor, layout).groups.flatMap(({ columns }) =>
      columns.map((column) => column.reduce((sum, weight) => sum + weight ** 2, 0)),
    ),
  );
}

/** Divides channels of the activation over copies; the columns of the weight are duplicated as they are. */
export function rewriteActivations(
  graph: Graph,
  { weight, layout, readers }: SplittableWeight,
  { pieces, scales: [scale] }: Splits,
  elementType: ElementType,
): GraphPatch {
  const tensor = constantOf(graph, weight);
  const writer = new PatchWriter(createNameSource(graph));
  const whole = pieces.map((group) => group.map(({ source }) => ({ source, share: 1, offset: 0 })));
  writer.initializers.set(weight, splitTensor(tensor, layout, whole, [0]));
  const channels = sourcesOf(pieces, tensor.shape[layout.inputAxis]);
  const list = writer.constant(`${weight}_channels`, int32Tensor([channels.length], channels));
  const flat = pieces.flat();
  const removed = readers.map(({ output, data, dataInput, dataAxis }) => {
    const node = producerOf(graph, output);
    const perChannel = (what: string, values: readonly number[]): ValueName => {
      // Behind the channels of a picture come its places.
      const places = dataAxis < 0 ? -1 - dataAxis : tensor.shape.length - 2;
      const shape = [values.length, ...new Array<number>(places).fill(1)];
      return writer.constant(`${weight}_${what}`, floatTensor(elementType, shape, values));
    };
    const copied = writer.node("Gather", [data, list], `${data}_copied`, { axis: dataAxis });
    const shares = perChannel(
      "shares",
      flat.map((piece) => piece.share),
    );
    let value = writer.node("Mul", [copied, shares], `${data}_split`);
    if (flat.some(({ offset }) => offset !== 0)) {
      const offsets = perChannel(
        "offsets",
        flat.map((piece) => piece.offset * scale),
      );
      value = writer.node("Add", [value, offsets], `${data}_split`);
    }
    writer.add(
      withInputs(
        node,
        node.inputs.map((input, place) => (place === dataInput ? value : input)),
      ),
    );
    return node;
  });
  return writer.finish(`split channels of the input of ${weight}`, { remove: removed });
}

/** The extremes of the channels of a group, over all readers. */
function groupOf(found: readonly ChannelMoments[], first: number, channels: number): GroupColumns {
  const columns = Array.from({ length: channels }, (_, c) =>
    Float64Array.of(
      Math.min(...found.map(({ lows }) => lows[first + c])),
      Math.max(...found.map(({ highs }) => highs[first + c])),
    ),
  );
  return { firstRow: 0, rows: 1, columns };
}
