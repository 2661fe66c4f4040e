import type { Graph, Node, ValueName } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { createNameSource } from "../graph/names.js";
import { labelOf } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { PatchBatch } from "../graph/patch-batch.js";
import type { SharedConstants } from "../graph/patch-writer.js";
import type { ValueTypes } from "../graph/value-types.js";
import type { Range } from "../math/distribution.js";
import { elementCount } from "../tensor/shape.js";
import { inMemory, type TensorStore } from "../tensor/tensor-store.js";
import { type ActivationDemand, type ActivationSite, chooseActivations } from "./choose-activations.js";
import type { LayerChoice, LayerPlan } from "./choose-layers.js";
import type { Bits, Storage } from "./format.js";
import { chooseActivationGrid } from "./grid.js";
import { type ActivationGroup, groupActivations } from "./group-activations.js";
import { Pause } from "./pause.js";
import {
  type NearestWeight,
  putRounded,
  roundUnbounded,
  roundWeightToNearest,
  type WeightToRound,
  weightsToRound,
} from "./round-weights.js";
import { type GridParameters, writeActivations } from "./write-activations.js";

/** A network whose activations and weights stand on grids, and what the report needs to know of it. */
export interface QuantizedModel {
  readonly model: Model;
  readonly groups: readonly QuantizedGroup[];
  /** Signal to quantization noise of the weights that are rounded, in decibels. */
  readonly weightSqnrDb: ReadonlyMap<ValueName, number>;
  /** Weights that are to be rounded by what their layers read: they are still in float. */
  readonly unrounded: readonly WeightToRound[];
}

/** Values on a grid, and the initializers that hold it. */
export interface QuantizedGroup extends ActivationGroup {
  readonly parameters: readonly GridParameters[];
}

export interface QuantizedLayer {
  readonly plan: LayerPlan;
  readonly label: string;
  /** Bits of the grid that the layer's input lies on, or "float". */
  readonly activationBits: Bits | "float";
  /** What differs from the wish, and why. */
  readonly remarks: readonly string[];
  readonly shape: readonly number[];
}

export interface RoundingOptions {
  /** What `roundAhead` returned. */
  readonly ahead?: RoundedAhead;
  /** Where the codes stay; in memory where it is not given. */
  readonly store?: TensorStore;
  /** Called with the share of the weights that is done, from 0 to 1. */
  readonly onProgress?: (done: number) => void;
}

/** The activations that a choice of layers asks to have quantized. */
export function activationSites(graph: Graph, types: ValueTypes, choice: LayerChoice): readonly ActivationSite[] {
  return chooseActivations(graph, types, demandsOf(choice));
}

/** Weights that are rounded to nearest before the ranges of activations are known. */
export type RoundedAhead = ReadonlyMap<ValueName, NearestWeight>;

/** Elements of the weights that are rounded ahead: what they become stays in memory for a while, and who breaks off waits for it. */
const mostAhead = 2 ** 23;

/**
 * Rounds weights to nearest while something else waits for the runtime.
 *
 * @throws RecoupError `model/not-finite` for a weight that holds NaN or infinity
 */
export async function roundAhead({ graph }: Model, choice: LayerChoice, storage: Storage): Promise<RoundedAhead> {
  const ahead = new Map<ValueName, NearestWeight>();
  const pause = new Pause();
  let elements = 0;
  for (const weight of weightsToRound(graph, choice.layers, storage, new Map()).filter(isNearest)) {
    elements += elementCount(weight.tensor.shape);
    if (elements > mostAhead) break;
    await pause.now();
    ahead.set(weight.weight, roundUnbounded(weight));
  }
  return ahead;
}

function isNearest({ format }: WeightToRound): boolean {
  return (format.rounding?.use ?? "rtn") === "rtn";
}

/**
 * Puts the activations on their grids and rounds the weights, those to nearest for which no other rounding is wished.
 *
 * @param sites what `activationSites` returned
 * @param ranges of the values of all sites
 * @throws RecoupError `model/not-finite` for a weight that holds NaN or infinity
 */
export async function quantize(
  model: Model,
  choice: LayerChoice,
  sites: readonly ActivationSite[],
  ranges: ReadonlyMap<ValueName, Range>,
  storage: Storage,
  { ahead = new Map(), store = inMemory, onProgress = () => {} }: RoundingOptions = {},
): Promise<QuantizedModel> {
  const names = createNameSource(model.graph);
  const groups = groupActivations(sites, ranges, (value) => model.graph.consumers(value).length);
  const gridded = groups.map(({ sites: members, format, spacing, range }) => ({
    sites: members,
    grid: chooseActivationGrid(range, format.bits, format.symmetric, spacing),
  }));
  const inputScales = new Map(gridded.flatMap(({ sites: members, grid }) => members.map((s) => [s.value, grid.scale])));
  const readers = new Set<Node>(demandsOf(choice).map((demand) => demand.node));
  const weights = weightsToRound(model.graph, choice.layers, storage, inputScales);
  const shared: SharedConstants = new Map();
  const weightSqnrDb = new Map<ValueName, number>();
  const activations = writeActivations(model.graph, gridded, readers, names);
  const batch = new PatchBatch(applyPatch(model.graph, activations.patch), "quantize weights");
  const nearest = weights.filter(isNearest);
  const pause = new Pause();
  for (const [i, weight] of nearest.entries()) {
    onProgress(i / nearest.length);
    await pause.now();
    const { rows, sqnrDb } = roundWeightToNearest(weight, ahead.get(weight.weight));
    weightSqnrDb.set(weight.weight, sqnrDb);
    putRounded(batch, weight, rows, { names, shared, store });
  }
  const graph = batch.finish();
  const unrounded = weights.filter((weight) => !isNearest(weight));
  const onGrids = groups.map((group, i) => ({ ...group, parameters: activations.parameters[i] }));
  return { model: withGraph(model, graph), groups: onGrids, weightSqnrDb, unrounded };
}

/**
 * What became of the layers.
 *
 * @param graph with all weights rounded
 */
export function describeLayers(
  float: Graph,
  graph: Graph,
  choice: LayerChoice,
  groups: readonly ActivationGroup[],
): readonly QuantizedLayer[] {
  const bitsOf = new Map(
    groups.flatMap(({ sites, format }) => sites.map(({ value }) => [value, format.bits] as const)),
  );
  return choice.layers.map((plan) => {
    const activationBits = bitsRead(bitsOf, plan);
    return {
      plan,
      label: labelOf(plan.layer.node),
      activationBits,
      remarks: [...plan.remarks, ...activationRemark(plan, activationBits), ...keptRemark(graph, plan.layer.weight)],
      shape: float.initializers.get(plan.layer.weight)?.shape ?? [],
    };
  });
}

/** A value has one grid, with the most bits that one of its readers or of the values that share the grid asks for. */
function bitsRead(bitsOf: ReadonlyMap<ValueName, Bits>, { layer, activation }: LayerPlan): Bits | "float" {
  if (activation === "float") return "float";
  return bitsOf.get(layer.data ?? "") ?? activation.bits;
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
    isProduct: true,
  }));
  return [...layers, ...products];
}
