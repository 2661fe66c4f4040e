import { withPlace } from "../errors.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { createNameSource } from "../graph/names.js";
import { labelOf } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import type { SharedConstants } from "../graph/patch-writer.js";
import type { ValueTypes } from "../graph/value-types.js";
import type { Range } from "../math/distribution.js";
import { feedsOnlySilu, siluFloor } from "../operators/silu.js";
import { toRows } from "../tensor/rows.js";
import { float32Values } from "../tensor/tensor.js";
import { type ActivationDemand, type ActivationSite, chooseActivations } from "./choose-activations.js";
import type { LayerChoice, LayerPlan } from "./choose-layers.js";
import type { Bits, Storage } from "./format.js";
import { chooseActivationGrid } from "./grid.js";
import { type ActivationGroup, groupActivations } from "./group-activations.js";
import type { StoredWeight } from "./stored-weight.js";
import { dequantizeRows, roundToNearest } from "./weight.js";
import { writeActivations } from "./write-activations.js";
import { writeWeight } from "./write-weights.js";

/** A network whose layers stand on grids, and what the lowering to a file and the report need to know of it. */
export interface QuantizedModel {
  readonly model: Model;
  readonly layers: readonly QuantizedLayer[];
  readonly groups: readonly ActivationGroup[];
}

export interface QuantizedLayer {
  readonly plan: LayerPlan;
  readonly label: string;
  /** Bits of the grid that the layer's input lies on, or "float". */
  readonly activationBits: Bits | "float";
  /** What differs from the wish, and why. */
  readonly remarks: readonly string[];
  readonly stored: StoredWeight;
  /** Signal to quantization noise of the weight, in decibels. */
  readonly weightSqnrDb: number;
}

/** The activations that a choice of layers asks to have quantized. */
export function activationSites(graph: Graph, types: ValueTypes, choice: LayerChoice): readonly ActivationSite[] {
  return chooseActivations(graph, types, demandsOf(choice));
}

/**
 * Rounds the weights and puts the activations on their grids.
 *
 * @param sites what `activationSites` returned
 * @param ranges of the values of all sites
 * @throws RecoupError `model/not-finite` for a weight that holds NaN or infinity
 */
export function quantize(
  model: Model,
  choice: LayerChoice,
  sites: readonly ActivationSite[],
  ranges: ReadonlyMap<ValueName, Range>,
  storage: Storage,
): QuantizedModel {
  const names = createNameSource(model.graph);
  const useful = new Map([...ranges].map(([value, range]) => [value, usefulRange(model.graph, value, range)]));
  const groups = groupActivations(sites, useful, (value) => model.graph.consumers(value).length);
  const gridded = groups.map(({ sites: members, format, range }) => ({
    sites: members,
    grid: chooseActivationGrid(range, format.bits, format.symmetric),
  }));
  const inputScales = new Map(gridded.flatMap(({ sites: members, grid }) => members.map((s) => [s.value, grid.scale])));
  const readers = new Set<Node>(demandsOf(choice).map((demand) => demand.node));
  const stored = storeWeights(model.graph, choice.layers, storage, inputScales);
  const shared: SharedConstants = new Map();
  let graph = applyPatch(model.graph, writeActivations(model.graph, gridded, readers, names));
  for (const [weight, one] of stored) {
    const sharers = choice.layers.filter((plan) => plan.layer.weight === weight);
    const weightReaders = sharers.map(({ layer, activation }) => ({ layer, isInteger: activation !== "float" }));
    graph = applyPatch(graph, writeWeight(graph, one, weightReaders, names, shared));
  }
  const layers = choice.layers.map((plan) => {
    const one = stored.get(plan.layer.weight) as StoredWeight;
    const activationBits = bitsRead(groups, plan);
    return {
      plan,
      label: labelOf(plan.layer.node),
      activationBits,
      remarks: [...plan.remarks, ...activationRemark(plan, activationBits), ...keptRemark(graph, plan.layer.weight)],
      stored: one,
      weightSqnrDb: weightSqnr(model.graph, one),
    };
  });
  return { model: withGraph(model, graph), layers, groups };
}

/** A value has one grid, with the most bits that one of its readers or of the values that share the grid asks for. */
function bitsRead(groups: readonly ActivationGroup[], { layer, activation }: LayerPlan): Bits | "float" {
  if (activation === "float") return "float";
  const group = groups.find(({ sites }) => sites.some((site) => site.value === layer.data));
  return group?.format.bits ?? activation.bits;
}

function activationRemark({ activation }: LayerPlan, bits: Bits | "float"): readonly string[] {
  if (activation === "float" || activation.bits === bits) return [];
  return [
    `activations have ${bits} bits instead of ${activation.bits}: something else that is on the grid of its input needs them`,
  ];
}

/** A weight that something else reads too is not replaced by its codes but stands beside them. */
function keptRemark(graph: Graph, weight: ValueName): readonly string[] {
  if (!graph.initializers.has(weight)) return [];
  const readers = graph.consumers(weight).map(labelOf);
  const reason = readers.length > 0 ? `read by ${readers.join(", ")}` : "as an output of the model";
  return [`${weight} stays in the file in float too, ${reason}`];
}

/** The part of a value's range that what follows can tell apart. */
function usefulRange(graph: Graph, value: ValueName, range: Range): Range {
  return feedsOnlySilu(graph, value) ? { low: Math.max(range.low, siluFloor), high: range.high } : range;
}

function demandsOf(choice: LayerChoice): readonly ActivationDemand[] {
  const layers = choice.layers.flatMap(({ layer, activation }) =>
    activation === "float" || layer.data === undefined
      ? []
      : [{ node: layer.node, values: [layer.data], format: activation }],
  );
  const products = choice.products.map(({ product, activation }) => ({
    node: product.node,
    values: product.operands,
    format: activation,
  }));
  return [...layers, ...products];
}

function storeWeights(
  graph: Graph,
  plans: readonly LayerPlan[],
  storage: Storage,
  inputScales: ReadonlyMap<ValueName, number>,
): ReadonlyMap<ValueName, StoredWeight> {
  const stored = new Map<ValueName, StoredWeight>();
  for (const { layer, weight: format } of plans) {
    if (stored.has(layer.weight)) continue;
    const tensor = graph.initializers.get(layer.weight);
    if (!tensor) throw new Error(`${layer.weight} is no initializer`);
    const rowCount = tensor.shape[layer.channelAxis];
    try {
      const rows = toRows(float32Values(tensor), tensor.shape, layer.channelAxis);
      const bounds = smallestScales(
        graph,
        plans.filter((plan) => plan.layer.weight === layer.weight),
        rowCount,
        inputScales,
      );
      stored.set(layer.weight, {
        weight: layer.weight,
        shape: tensor.shape,
        channelAxis: layer.channelAxis,
        format,
        storage,
        rows: roundToNearest(rows, rowCount, format, bounds),
      });
    } catch (error) {
      throw withPlace(error, { field: layer.weight });
    }
  }
  return stored;
}

/** A bias becomes an int32 in units of input scale times weight scale: a far smaller weight scale would overflow it. */
function smallestScales(
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

function weightSqnr(graph: Graph, stored: StoredWeight): number {
  const tensor = graph.initializers.get(stored.weight);
  if (!tensor) throw new Error(`${stored.weight} is no initializer`);
  const rows = toRows(float32Values(tensor), tensor.shape, stored.channelAxis);
  const restored = dequantizeRows(stored.rows, tensor.shape[stored.channelAxis]);
  let signal = 0;
  let noise = 0;
  for (let i = 0; i < rows.length; i++) {
    signal += rows[i] ** 2;
    noise += (rows[i] - restored[i]) ** 2;
  }
  return noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(signal / noise);
}
