import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator, labelOf } from "../graph/node.js";
import { elementTypeOf, type ValueTypes } from "../graph/value-types.js";
import type { FoundLayers } from "../operators/index.js";
import type { ActivationProduct, Layer } from "../operators/layer.js";
import type { ActivationFormat, WeightFormat } from "./format.js";

/** What the user wants of a layer, or why it shall stay as it is. */
export type LayerWish =
  | { readonly kind: "quantize"; readonly weight: WeightFormat; readonly activation: ActivationFormat | "float" }
  | { readonly kind: "skip"; readonly reason: string };

/** Looks up the wish for a node by what a person calls it. */
export type WishFor = (node: Node, weight: ValueName | undefined) => LayerWish;

/** A layer with the formats it gets. */
export interface LayerPlan {
  readonly layer: Layer;
  readonly weight: WeightFormat;
  /** "float" where the layer reads its input as it is. */
  readonly activation: ActivationFormat | "float";
  /** What differs from the wish, and why. */
  readonly remarks: readonly string[];
}

export interface ProductPlan {
  readonly product: ActivationProduct;
  readonly activation: ActivationFormat;
}

export interface LayerChoice {
  readonly layers: readonly LayerPlan[];
  readonly products: readonly ProductPlan[];
  readonly skipped: readonly { readonly node: Node; readonly reason: string }[];
}

/** Gives every layer its formats: what was wished, as far as the runtime has a kernel for it. */
export function chooseLayers(graph: Graph, types: ValueTypes, found: FoundLayers, wishFor: WishFor): LayerChoice {
  const skipped: { node: Node; reason: string }[] = [...found.rejected];
  const layers: LayerPlan[] = [];
  for (const sharers of groupByWeight(found.layers)) {
    const obstacle = findObstacle(sharers, wishFor);
    if (obstacle) for (const layer of sharers) skipped.push({ node: layer.node, reason: obstacle });
    else layers.push(...planSharers(graph, types, sharers, wishFor));
  }
  const products: ProductPlan[] = [];
  for (const product of found.products) {
    const wish = wishFor(product.node, undefined);
    if (wish.kind === "skip") skipped.push({ node: product.node, reason: wish.reason });
    else if (wish.activation !== "float" && product.operands.every((value) => isFloat32(types, value))) {
      products.push({ product, activation: wish.activation });
    }
  }
  return { layers, products, skipped };
}

/** Layers that read one initializer share its codes, so they are decided on together. */
function groupByWeight(layers: readonly Layer[]): readonly (readonly Layer[])[] {
  const groups = new Map<ValueName, Layer[]>();
  for (const layer of layers) {
    const group = groups.get(layer.weight);
    if (group) group.push(layer);
    else groups.set(layer.weight, [layer]);
  }
  return [...groups.values()];
}

function findObstacle(sharers: readonly Layer[], wishFor: WishFor): string | undefined {
  for (const layer of sharers) {
    const wish = wishFor(layer.node, layer.weight);
    if (wish.kind === "skip") {
      return sharers.length === 1 ? wish.reason : `${wish.reason} (${labelOf(layer.node)} reads the same weight)`;
    }
  }
  return undefined;
}

function planSharers(
  graph: Graph,
  types: ValueTypes,
  sharers: readonly Layer[],
  wishFor: WishFor,
): readonly LayerPlan[] {
  const [first] = sharers;
  const axesDiffer = sharers.some((layer) => layer.channelAxis !== first.channelAxis);
  return sharers.map((layer) => {
    const wish = wishFor(layer.node, layer.weight) as Extract<LayerWish, { kind: "quantize" }>;
    const shared = wishFor(first.node, first.weight) as Extract<LayerWish, { kind: "quantize" }>;
    const remarks: string[] = [];
    let weight = shared.weight;
    if (axesDiffer && weight.granularity.kind !== "per-tensor") {
      weight = { ...weight, granularity: { kind: "per-tensor" } };
      remarks.push("one scale for the whole weight: its readers have their output channels along different axes");
    }
    let activation = wish.activation;
    const reason = activation === "float" ? undefined : floatReasonOf(graph, types, layer, weight);
    if (reason !== undefined) {
      activation = "float";
      remarks.push(`activations stay in float: ${reason}`);
    }
    if (activation !== "float" && weight.bits === 8 && !weight.symmetric) {
      weight = { ...weight, symmetric: true };
      remarks.push("symmetric weights: integer kernels take no zero point per channel, and 8-bit codes leave no room");
    }
    return { layer, weight, activation, remarks };
  });
}

/** Why a layer runs in float although its activations were to be quantized. */
function floatReasonOf(graph: Graph, types: ValueTypes, layer: Layer, weight: WeightFormat): string | undefined {
  if (layer.floatReason) return layer.floatReason;
  if (weight.granularity.kind === "per-group") return "onnxruntime has no integer kernel for a scale per group";
  if (layer.data !== undefined && !isFloatActivation(types, layer.data)) return "its input is no float tensor";
  if (isOperator(layer.node, "Conv") && graph.isOutput(layer.node.outputs[0])) {
    return "its output is an output of the model, and the integer kernel of Conv returns no floats";
  }
  return undefined;
}

function isFloatActivation(types: ValueTypes, value: ValueName): boolean {
  const type = elementTypeOf(types, value);
  return type === "float32" || type === "float16";
}

function isFloat32(types: ValueTypes, value: ValueName): boolean {
  return elementTypeOf(types, value) === "float32";
}
