import { withPlace } from "../errors.js";
import type { Graph, ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import type { GraphPatch } from "../graph/patch.js";
import type { PatchBatch } from "../graph/patch-batch.js";
import type { SharedConstants } from "../graph/patch-writer.js";
import { groupBy } from "../math/group-by.js";
import { toRows } from "../tensor/rows.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";
import type { TensorStore } from "../tensor/tensor-store.js";
import type { LayerPlan } from "./choose-layers.js";
import type { Storage, WeightFormat } from "./format.js";
import type { StoredWeight } from "./stored-weight.js";
import { dequantizeRows, type QuantizedRows, roundToNearest } from "./weight.js";
import { writeWeight } from "./write-weights.js";

/** A weight that is to be rounded, and everything that reads it. */
export interface WeightToRound {
  readonly weight: ValueName;
  readonly tensor: Tensor;
  readonly channelAxis: number;
  readonly format: WeightFormat;
  readonly storage: Storage;
  /** The layers that read it, in the order of the graph. */
  readonly plans: readonly LayerPlan[];
  /** A lower bound for the scale of each row. `[rows]` */
  readonly smallestScales?: Float64Array;
}

/** The weights of the chosen layers, each once. */
export function weightsToRound(
  graph: Graph,
  plans: readonly LayerPlan[],
  storage: Storage,
  inputScales: ReadonlyMap<ValueName, number>,
): readonly WeightToRound[] {
  return [...groupBy(plans, ({ layer }) => layer.weight)].map(([weight, own]) => {
    const [{ layer, weight: format }] = own;
    const tensor = graph.initializers.get(weight);
    if (!tensor) throw new Error(`${weight} is no initializer`);
    const { channelAxis } = layer;
    const smallestScales = findSmallestScales(graph, own, tensor.shape[channelAxis], inputScales);
    return { weight, tensor, channelAxis, format, storage, plans: own, smallestScales };
  });
}

/** The weight with a row per output channel. `[rows, columns]` */
export function rowsOfWeight({ tensor, channelAxis }: WeightToRound): Float32Array {
  return toRows(float32Values(tensor), tensor.shape, channelAxis);
}

export function rowCountOf({ tensor, channelAxis }: WeightToRound): number {
  return tensor.shape[channelAxis];
}

/** What rounding to nearest makes of a weight. */
export interface NearestWeight {
  readonly rows: QuantizedRows;
  /** As `weightSqnr`. */
  readonly sqnrDb: number;
}

/**
 * Rounds a weight to nearest as if no scale had a lower bound.
 *
 * @throws RecoupError `model/not-finite` for a weight that holds NaN or infinity
 */
export function roundUnbounded(weight: WeightToRound): NearestWeight {
  return roundWithin(weight, undefined);
}

/**
 * Rounds a weight to nearest.
 *
 * @param unbounded what `roundUnbounded` made of it: bounds seldom matter
 * @throws RecoupError `model/not-finite` for a weight that holds NaN or infinity
 */
export function roundWeightToNearest(weight: WeightToRound, unbounded = roundUnbounded(weight)): NearestWeight {
  const { smallestScales } = weight;
  return areWithin(unbounded.rows.scales, smallestScales) ? unbounded : roundWithin(weight, smallestScales);
}

function roundWithin(weight: WeightToRound, smallestScales: Float64Array | undefined): NearestWeight {
  return naming(weight, () => {
    const given = rowsOfWeight(weight);
    const rowCount = rowCountOf(weight);
    const rows = roundToNearest(given, rowCount, weight.format, smallestScales);
    return { rows, sqnrDb: sqnrOf(given, rows, rowCount) };
  });
}

/** @param scales `[rows, groups]`, or one for all rows @param bounds `[rows]` */
function areWithin(scales: Float32Array, bounds: Float64Array | undefined): boolean {
  if (bounds === undefined) return true;
  const perRow = scales.length / bounds.length;
  return bounds.every((bound, row) => {
    const start = Math.floor(row * perRow);
    return scales.subarray(start, start + Math.max(perRow, 1)).every((scale) => scale >= bound);
  });
}

/** Lets the errors of work on a weight name it. */
export function naming<Result>({ weight }: WeightToRound, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    throw withPlace(error, { field: weight });
  }
}

/** Puts the codes of a weight in its place. */
export function writeRounded(
  graph: Graph,
  { weight, tensor, channelAxis, format, storage, plans }: WeightToRound,
  rows: QuantizedRows,
  names: NameSource,
  shared: SharedConstants,
): GraphPatch {
  const stored: StoredWeight = { weight, shape: tensor.shape, channelAxis, format, storage, rows };
  const readers = plans.map(({ layer, activation }) => ({ layer, isInteger: activation !== "float" }));
  return writeWeight(graph, stored, readers, names, shared);
}

/** What goes on from one weight to the next. */
export interface WritingContext {
  readonly names: NameSource;
  readonly shared: SharedConstants;
  /** Where the codes stay until the model is written. */
  readonly store: TensorStore;
}

/** As `writeRounded`, as one of many patches. */
export function putRounded(
  batch: PatchBatch,
  weight: WeightToRound,
  rows: QuantizedRows,
  { names, shared, store }: WritingContext,
): void {
  const graph = batch.graphFor(weight.plans.flatMap(({ layer }) => layer.node.outputs));
  const { initializers = new Map(), ...patch } = writeRounded(graph, weight, rows, names, shared);
  const kept = [...initializers].map(([name, tensor]) => [name, store.keep(tensor)] as const);
  batch.add({ ...patch, initializers: new Map(kept) });
}

/** Signal to quantization noise of a weight, in decibels. */
export function weightSqnr(weight: WeightToRound, rounded: QuantizedRows): number {
  return sqnrOf(rowsOfWeight(weight), rounded, rowCountOf(weight));
}

function sqnrOf(rows: Float32Array, rounded: QuantizedRows, rowCount: number): number {
  const restored = dequantizeRows(rounded, rowCount);
  let signal = 0;
  let noise = 0;
  for (let i = 0; i < rows.length; i++) {
    const error = rows[i] - restored[i];
    signal += rows[i] * rows[i];
    noise += error * error;
  }
  return noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(signal / noise);
}

/** A bias becomes an int32 in units of input scale times weight scale: a far smaller weight scale would overflow it. */
function findSmallestScales(
  graph: Graph,
  sharers: readonly LayerPlan[],
  rowCount: number,
  inputScales: ReadonlyMap<ValueName, number>,
): Float64Array | undefined {
  const bounds = new Float64Array(rowCount);
  for (const { layer, activation } of sharers) {
    const bias = graph.constant(layer.node.inputs[2] ?? "");
    const scale = inputScales.get(layer.data ?? "");
    if (activation === "float" || bias === undefined || scale === undefined) continue;
    const values = float32Values(bias);
    if (values.length !== rowCount) continue;
    for (let row = 0; row < rowCount; row++) {
      bounds[row] = Math.max(bounds[row], Math.abs(values[row]) / (scale * 2 ** 30));
    }
  }
  return bounds.some((bound) => bound > 0) ? bounds : undefined;
}
