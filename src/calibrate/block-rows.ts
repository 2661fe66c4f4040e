import type { Node, ValueName } from "../graph/graph.js";
import type { Limits } from "../operators/limits.js";
import { float32Tensor, type Tensor } from "../tensor/tensor.js";
import type { ProbeWriter } from "./probe-writer.js";
import type { Tap } from "./statistic.js";
import { type HeadToken, writePlaces, writeTokenCount, writeTokenWeights } from "./token-weights.js";

/** What a correction multiplies its matrix with. */
export type RowForm =
  /** Vectors along the last axis. */
  | { readonly kind: "vectors" }
  /** Patches of maps `[N, C, …]` under a kernel, the columns of one channel side by side. */
  | {
      readonly kind: "maps";
      readonly kernel: readonly number[];
      readonly strides: readonly number[];
      /** Zeros before each axis, then behind each. */
      readonly padding: readonly number[];
    };

/** A run of nodes of the float network. */
export interface FloatPart {
  readonly nodes: readonly Node[];
  readonly constants: ReadonlyMap<ValueName, Tensor>;
  /** What the nodes read besides: values that no layer lies above, as masks. */
  readonly sides: readonly ValueName[];
}

/** The normalization that reads what a block leaves. */
export interface NextNorm {
  /** Whether the mean is taken off first, as LayerNormalization does. */
  readonly isCentred: boolean;
  /** `[O]`; ones where it is not known. */
  readonly gain: Float32Array;
  readonly epsilon: number;
}

/** A block of a network whose output is to be corrected by what enters it. */
export interface CorrectedBlock {
  /** What the correction reads in the current network. */
  readonly input: ValueName;
  /** What enters the block in the current network, before any rounding. */
  readonly entry: ValueName;
  /** What leaves the block. */
  readonly output: ValueName;
  /** Of input and output. */
  readonly rank: number;
  readonly inputChannels: number;
  readonly outputChannels: number;
  readonly form: RowForm;
  /**
   * How much of the target is the float network's own output; the rest is what the float block makes of what enters it in
   * the current network. From 0 to 1.
   */
  readonly trajectoryShare: number;
  /** The block itself in float; absent where the share is 1. */
  readonly block?: FloatPart;
  /** Of the Relu or Clip that ends the block: it is repeated behind the correction. */
  readonly limits?: Limits;
  readonly token?: HeadToken;
  /** Whether each token counts in inverse proportion to the variance of its target. */
  readonly isLevelled: boolean;
  readonly norm?: NextNorm;
}

/** The rows of a block in the running graph, in float32. */
export interface BlockRows {
  /** `[n, K]` */
  readonly inputs: ValueName;
  /** The output as it is, and as it should be. `[n, O]` */
  readonly outputs: ValueName;
  readonly targets: ValueName;
  /** How much each row counts in a fit, and where fits are judged. `[n, 1]` */
  readonly weights: ValueName;
  readonly judges: ValueName;
  /** n, one number. */
  readonly count: ValueName;
}

/** Columns of the matrix that is fitted. */
export function columnsOf({ form, inputChannels }: CorrectedBlock): number {
  return form.kind === "vectors" ? inputChannels : form.kernel.reduce((count, size) => count * size, inputChannels);
}

export function tapsOf({ input, entry, output, block }: CorrectedBlock): readonly Tap[] {
  return [
    { from: "current", value: input },
    { from: "current", value: entry },
    { from: "current", value: output },
    { from: "float", value: output },
    ...(block?.sides ?? []).map((value): Tap => ({ from: "float", value })),
  ];
}

/** What tells blocks and ways of looking at them apart. */
export function keyOf(site: CorrectedBlock): string {
  const { block, norm, ...rest } = site;
  return JSON.stringify([rest, block?.nodes.length, norm?.isCentred]);
}

/** @param taps the names of `tapsOf` in the running graph */
export function writeBlockRows(writer: ProbeWriter, taps: readonly ValueName[], site: CorrectedBlock): BlockRows {
  const [input, entry, output, float, ...sides] = taps;
  const { form, rank, outputChannels } = site;
  const patches = writePatches(writer, writer.float32(input), site);
  const toRows = (value: ValueName, columns: number) =>
    writer.node("Reshape", [channelsLast(writer, value, form, rank), writer.integers([-1, columns])]);
  const inputs = toRows(patches, columnsOf(site));
  const outputs = toRows(writer.float32(output), outputChannels);
  const target = writeTarget(writer, site, entry, float, sides);
  const targets = toRows(target, outputChannels);
  const count = writer.node("Gather", [writer.node("Shape", [inputs]), writer.integers([0], [])]);
  const tokens = writeRowWeights(writer, site, input, count);
  const weights = site.isLevelled
    ? writer.node("Div", [tokens, writeVariance(writer, targets, outputChannels)])
    : tokens;
  return { inputs, outputs, targets, weights, judges: tokens, count };
}

/** Patches of each channel side by side, as a convolution with one kernel for each of their places. */
function writePatches(writer: ProbeWriter, input: ValueName, { form, inputChannels }: CorrectedBlock): ValueName {
  if (form.kind === "vectors") return input;
  const { kernel, strides, padding } = form;
  const taps = kernel.reduce((count, size) => count * size, 1);
  const isWhole = taps === 1 && strides.every((s) => s === 1) && padding.every((zeros) => zeros === 0);
  if (isWhole) return input;
  const ones = new Float32Array(inputChannels * taps * taps);
  for (let row = 0; row < inputChannels * taps; row++) ones[row * taps + (row % taps)] = 1;
  const weight = writer.constant(float32Tensor([inputChannels * taps, 1, ...kernel], ones));
  return writer.node("Conv", [input, weight], { group: inputChannels, strides, pads: padding });
}

function channelsLast(writer: ProbeWriter, value: ValueName, form: RowForm, rank: number): ValueName {
  if (form.kind === "vectors") return value;
  const perm = [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];
  return writer.node("Transpose", [value], { perm });
}

function writeTarget(
  writer: ProbeWriter,
  { trajectoryShare, block, entry: entryName, output }: CorrectedBlock,
  entry: ValueName,
  float: ValueName,
  sides: readonly ValueName[],
): ValueName {
  const trajectory = writer.float32(float);
  if (block === undefined || trajectoryShare === 1) return trajectory;
  const feeds = new Map([[entryName, entry], ...block.sides.map((side, i) => [side, sides[i]] as const)]);
  const local = writer.float32(writer.part(block.nodes, block.constants, feeds).get(output) as ValueName);
  if (trajectoryShare === 0) return local;
  const share = (value: ValueName, factor: number) =>
    writer.node("Mul", [value, writer.constant(float32Tensor([], [factor]))]);
  return writer.node("Add", [share(trajectory, trajectoryShare), share(local, 1 - trajectoryShare)]);
}

/** `[n, 1]`: ones, and more for the token that counts more. */
function writeRowWeights(
  writer: ProbeWriter,
  { token, rank }: CorrectedBlock,
  input: ValueName,
  count: ValueName,
): ValueName {
  const unsqueezed = (scalar: ValueName) => writer.node("Reshape", [scalar, writer.integers([1])]);
  const shape = writer.node("Concat", [unsqueezed(count), writer.integers([1])], { axis: 0 });
  if (token === undefined) return writer.node("Expand", [writer.constant(float32Tensor([], [1])), shape]);
  const tokens = writeTokenCount(writer, input, rank);
  const places = writer.node("Mod", [writePlaces(writer, count), tokens]);
  return writer.node("Reshape", [writeTokenWeights(writer, token, places, tokens), shape]);
}

/** Of each row, and a little more: `[n, 1]` */
function writeVariance(writer: ProbeWriter, rows: ValueName, columns: number): ValueName {
  const deviations = writer.node("Sub", [rows, writeMean(writer, rows, columns)]);
  const variance = writeMean(writer, writer.node("Mul", [deviations, deviations]), columns);
  return writer.node("Add", [variance, writer.constant(float32Tensor([], [1e-6]))]);
}

/** Of each row: `[n, 1]` */
function writeMean(writer: ProbeWriter, rows: ValueName, columns: number): ValueName {
  const share = float32Tensor([columns, 1], new Float32Array(columns).fill(1 / columns));
  return writer.node("MatMul", [rows, writer.constant(share)]);
}

/** What the next normalization makes of some rows. */
export function writeNorm(writer: ProbeWriter, rows: ValueName, norm: NextNorm): ValueName {
  const columns = norm.gain.length;
  const centred = norm.isCentred ? writer.node("Sub", [rows, writeMean(writer, rows, columns)]) : rows;
  const variance = writeMean(writer, writer.node("Mul", [centred, centred]), columns);
  const root = writer.node("Sqrt", [
    writer.node("Add", [variance, writer.constant(float32Tensor([], [norm.epsilon]))]),
  ]);
  return writer.node("Mul", [
    writer.node("Div", [centred, root]),
    writer.constant(float32Tensor([columns], norm.gain)),
  ]);
}
