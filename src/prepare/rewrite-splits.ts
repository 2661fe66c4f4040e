import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { withInputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import type { Range } from "../math/distribution.js";
import { int32Tensor, type Tensor } from "../tensor/tensor.js";
import { type Piece, splitWeight } from "./split-columns.js";
import type { SplittableWeight } from "./split-site.js";
import { duplicateUnits, withCopies } from "./split-units.js";
import { fromColumns, toColumns, type WeightLayout } from "./weight-columns.js";
import { findWidening, widen } from "./widen-producer.js";

/** A weight to be split, and how its readers get their copies. */
export interface SplitSite extends SplittableWeight {
  /** For each reader, the weight whose rows make the copies; undefined where a node copies them. */
  readonly widenings: readonly (ValueName | undefined)[];
}

/** How the columns of a weight are split. */
export interface Splits {
  readonly pieces: readonly (readonly Piece[])[];
  readonly scales: readonly number[];
  readonly ends: readonly Range[];
}

/** Splits a weight and gives its readers the copies. */
export function rewriteSplits(graph: Graph, site: SplitSite, splits: Splits): GraphPatch {
  return (site.isRecurrent ? splitUnits : splitChannels)(graph, site, splits);
}

/**
 * The ends of the grids after it, those of other weights that have got more rows by it included.
 *
 * @param known what was found for the weights before
 */
export function rangesOfSplits(
  site: SplitSite,
  splits: Splits,
  known: ReadonlyMap<ValueName, readonly Range[]>,
): ReadonlyMap<ValueName, readonly Range[]> {
  return (site.isRecurrent ? unitRanges : channelRanges)(site, splits, known);
}

/**
 * The largest difference between a weight and what its columns add up to after the split, rounded to the weight's type, as a
 * share of its largest value.
 */
export function foldedDifference({ tensor, layout }: SplittableWeight, { pieces, scales }: Splits): number {
  const whole = toColumns(tensor, layout);
  const split = toColumns(splitTensor(tensor, layout, pieces, scales), layout);
  let [largest, difference] = [0, 0];
  for (const [group, { columns }] of whole.groups.entries()) {
    const sums = columns.map((column) => new Float64Array(column.length));
    for (const [at, { source }] of pieces[group].entries()) {
      split.groups[group].columns[at].forEach((value, i) => {
        sums[source][i] += value;
      });
    }
    for (const [channel, column] of columns.entries()) {
      column.forEach((value, i) => {
        largest = Math.max(largest, Math.abs(value));
        difference = Math.max(difference, Math.abs(value - sums[channel][i]));
      });
    }
  }
  return largest === 0 ? 0 : difference / largest;
}

function splitChannels(graph: Graph, site: SplitSite, { pieces, scales }: Splits): GraphPatch {
  const { weight, layout, readers, widenings } = site;
  const tensor = constantOf(graph, weight);
  const writer = new PatchWriter(createNameSource(graph));
  writer.initializers.set(weight, splitTensor(tensor, layout, pieces, scales));
  const channels = sourcesOf(pieces, tensor.shape[layout.inputAxis]);
  if (channels.length === tensor.shape[layout.inputAxis] * layout.groups)
    return { label: `nothing split of ${weight}` };
  let list: ValueName | undefined;
  const removed = readers.flatMap(({ output, data, dataInput, dataAxis }, i) => {
    const node = producerOf(graph, output);
    const widening = widenings[i] === undefined ? undefined : findWidening(graph, data, dataAxis);
    const wide = widening && widen(writer, graph, widening, channels);
    const duplicated = wide?.value ?? writer.names.fresh(`${data}_split`);
    if (wide === undefined) {
      list ??= writer.constant(`${weight}_channels`, int32Tensor([channels.length], channels));
      writer.nodeTo(duplicated, "Gather", [data, list], { axis: dataAxis });
    }
    const inputs = node.inputs.map((input, place) => (place === dataInput ? duplicated : input));
    writer.add(withInputs(node, inputs));
    return [node, ...(wide?.removed ?? [])];
  });
  return writer.finish(`split channels of ${weight}`, { remove: removed });
}

/** The ends of its own grid, and those of the layers that have rows twice for it. */
function channelRanges(
  { weight, tensor, layout, widenings }: SplitSite,
  { pieces, ends }: Splits,
  known: ReadonlyMap<ValueName, readonly Range[]>,
): ReadonlyMap<ValueName, readonly Range[]> {
  const channels = sourcesOf(pieces, tensor.shape[layout.inputAxis]);
  const widened = widenings.flatMap((name) => {
    const rows = name === undefined ? undefined : known.get(name);
    return name === undefined || rows === undefined || rows.length === 1
      ? []
      : [[name, channels.map((channel) => rows[channel])] as const];
  });
  return new Map([[weight, ends], ...widened]);
}

function splitUnits(graph: Graph, site: SplitSite, { pieces, scales }: Splits): GraphPatch {
  const { weight, layout, readers } = site;
  const tensor = constantOf(graph, weight);
  const units = sourcesOf(pieces, tensor.shape[layout.inputAxis]);
  if (units.length === tensor.shape[layout.inputAxis]) return { label: `nothing split of ${weight}` };
  return duplicateUnits(
    graph,
    producerOf(graph, readers[0].output),
    splitTensor(tensor, layout, pieces, scales),
    units,
  );
}

/** All weights of the layer have a row for each unit and gate. */
function unitRanges(
  { weight, inputWeight, tensor, layout }: SplitSite,
  { pieces, ends }: Splits,
  known: ReadonlyMap<ValueName, readonly Range[]>,
): ReadonlyMap<ValueName, readonly Range[]> {
  const hidden = tensor.shape[layout.inputAxis];
  const units = sourcesOf(pieces, hidden);
  const grow = (rows: readonly Range[]) => (rows.length === 1 ? rows : withCopies(rows, hidden, units));
  const input = inputWeight === undefined ? undefined : known.get(inputWeight);
  return new Map([[weight, grow(ends)], ...(inputWeight && input ? [[inputWeight, grow(input)] as const] : [])]);
}

export function splitTensor(
  tensor: Tensor,
  layout: WeightLayout,
  pieces: Splits["pieces"],
  scales: readonly number[],
): Tensor {
  return fromColumns(splitWeight(toColumns(tensor, layout), scales, pieces), tensor, layout);
}

/** Which channel of the activation each column multiplies. @param channels of a group */
export function sourcesOf(pieces: Splits["pieces"], channels: number): readonly number[] {
  return pieces.flatMap((group, index) => group.map(({ source }) => index * channels + source));
}

export function constantOf(graph: Graph, weight: ValueName): Tensor {
  const tensor = graph.constant(weight);
  if (tensor === undefined) throw new Error(`${weight} is no constant any more`);
  return tensor;
}

/** The node as earlier sites have left it. */
export function producerOf(graph: Graph, output: ValueName): Node {
  const node = graph.producer(output);
  if (node === undefined) throw new Error(`${output} lost its node`);
  return node;
}
