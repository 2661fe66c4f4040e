import type { ChannelMoments } from "../calibrate/channel-moments.js";
import type { Graph, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { withInputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import type { ValueTypes } from "../graph/value-types.js";
import { elementTypeOf } from "../graph/value-types.js";
import type { Range } from "../math/distribution.js";
import { chooseActivations } from "../quantize/choose-activations.js";
import type { LayerPlan } from "../quantize/choose-layers.js";
import type { ActivationFormat } from "../quantize/format.js";
import { chooseActivationGrid } from "../quantize/grid.js";
import type { Outcome } from "../step/step.js";
import type { ElementType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { floatTensor, int32Tensor } from "../tensor/tensor.js";
import { constantOf, producerOf, type Splits, sourcesOf, splitTensor } from "./rewrite-splits.js";
import { columnsOf, type Piece, type SplitRule, splitLargest } from "./split-columns.js";
import type { SplittableWeight } from "./split-site.js";
import type { GroupColumns } from "./weight-columns.js";

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

/**
 * Chooses the channels with the largest values on calibration samples. Errors are those of a grid that holds all values: a
 * twelfth of the square of its step.
 */
export function solveActivations(
  { format }: { readonly format: ActivationFormat },
  { tensor, layout }: SplittableWeight,
  found: readonly ChannelMoments[],
  rule: SplitRule,
): Outcome<Splits> {
  const channels = tensor.shape[layout.inputAxis];
  const isKnown = ({ lows, highs }: ChannelMoments) =>
    lows.length === channels * layout.groups && [...lows, ...highs].every(Number.isFinite);
  if (found.length === 0 || !found.every(isKnown)) {
    return { kind: "skipped", reason: "the channels of its input were not seen on any sample" };
  }
  const groups = Array.from({ length: layout.groups }, (_, group) => groupOf(found, group * channels, channels));
  const scaleOf = (pieces: readonly (readonly Piece[])[]) => {
    const values = groups.flatMap((group, i) => columnsOf(group, 2, [0], pieces[i]).flatMap((column) => [...column]));
    const range: Range = { low: Math.min(...values), high: Math.max(...values) };
    return chooseActivationGrid(range, format.bits, format.symmetric).scale;
  };
  const split = (scale: number) => groups.map((group) => splitLargest(group, 2, [scale], rule));
  const before = scaleOf(groups.map(({ columns }) => columns.map((_, source) => ({ source, share: 1, offset: 0 }))));
  const after = scaleOf(split(before));
  if (after >= before) return { kind: "skipped", reason: "no split makes the grid of its input finer" };
  const pieces = split(after);
  const copies = pieces[0].length - channels;
  const added = (elementCount(tensor.shape) * copies) / channels;
  const share = ((100 * copies) / channels).toFixed(1);
  return {
    kind: "solved",
    solution: { pieces, scales: [after], ends: [] },
    errorBefore: before ** 2 / 12,
    errorAfter: after ** 2 / 12,
    remark: `${copies} channels of its input more: ${added} more weights (${share} %) and two operations in float`,
  };
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
