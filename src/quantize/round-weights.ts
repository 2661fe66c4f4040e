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

/** @throws RecoupError `model/not-finite` for a weight that holds NaN or infinity */
export function roundWeightToNearest(weight: WeightToRound): QuantizedRows {
  return naming(weight, () =>
    roundToNearest(rowsOfWeight(weight), rowCountOf(weight), weight.format, weight.smallestScales),
  );
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
  const rows = rowsOfWeight(weight);
  const restored = dequantizeRows(rounded, rowCountOf(weight));
  let signal = 0;
  let noise = 0;
  for (let i = 0; i < rows.length; i++) {
    signal += rows[i] ** 2;
    noise += (rows[i] - restored[i]) ** 2;
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
