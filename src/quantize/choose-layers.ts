import type { Graph, Node, ValueName } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { isOperator, labelOf } from "../graph/node.js";
import { elementTypeOf, type ValueTypes } from "../graph/value-types.js";
import { groupBy } from "../math/group-by.js";
import type { FoundLayers } from "../operators/index.js";
import type { ActivationProduct, Layer } from "../operators/layer.js";
import { behindActivation } from "../operators/selecting.js";
import { isFloatType } from "../tensor/element-type.js";
import type { ActivationFormat, Granularity, WeightFormat } from "./format.js";

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

/** A float network and the layers of it that are to be quantized. */
export interface PlannedNetwork {
  readonly float: Model;
  readonly types: ValueTypes;
  readonly choice: LayerChoice;
}

/** Gives every layer its formats: what was wished, as far as the runtime has a kernel for it. */
export function chooseLayers(graph: Graph, types: ValueTypes, found: FoundLayers, wishFor: WishFor): LayerChoice {
  const skipped: { node: Node; reason: string }[] = [...found.rejected];
  const layers: LayerPlan[] = [];
  // Layers that read one initializer share its codes, so they are decided on together.
  for (const sharers of groupBy(found.layers, (layer) => layer.weight).values()) {
    const wished: WishedLayer[] = [];
    let obstacle: string | undefined;
    for (const layer of sharers) {
      const wish = wishFor(layer.node, layer.weight);
      if (wish.kind === "quantize") wished.push({ layer, wish });
      else
        obstacle ??=
          sharers.length === 1 ? wish.reason : `${wish.reason} (${labelOf(layer.node)} reads the same weight)`;
    }
    if (obstacle === undefined) for (const plan of planSharers(graph, types, wished)) layers.push(plan);
    else for (const { node } of sharers) skipped.push({ node, reason: obstacle });
  }
  const products: ProductPlan[] = [];
  for (const product of found.products) {
    // Integers need no quantization.
    if (!product.operands.every((value) => mayBeFloat(types, value))) continue;
    const wish = wishFor(product.node, undefined);
    if (wish.kind === "skip") skipped.push({ node: product.node, reason: wish.reason });
    else if (wish.activation !== "float") {
      const reason = productReasonOf(types, product);
      if (reason === undefined) products.push({ product, activation: wish.activation });
      else skipped.push({ node: product.node, reason });
    }
  }
  return { layers, products, skipped };
}

interface WishedLayer {
  readonly layer: Layer;
  readonly wish: Extract<LayerWish, { kind: "quantize" }>;
}

/** The first layer's wish holds for the weight, as far as it suits all. */
function planSharers(graph: Graph, types: ValueTypes, wished: readonly WishedLayer[]): readonly LayerPlan[] {
  const [first] = wished;
  const shared: string[] = [];
  let weight = first.wish.weight;
  if (wished.some(({ wish }) => !isSameFormat(wish.weight, weight))) {
    shared.push(`the weight has the format of ${labelOf(first.layer.node)}, which reads it too`);
  }
  const axesDiffer = wished.some(({ layer }) => layer.channelAxis !== first.layer.channelAxis);
  if (axesDiffer && weight.granularity.kind !== "per-tensor") {
    weight = { ...weight, granularity: { kind: "per-tensor" } };
    shared.push("one scale for the whole weight: its readers have their output channels along different axes");
  }
  const { granularity } = weight;
  const reasons = wished.map(({ layer, wish }) =>
    wish.activation === "float" ? undefined : floatReasonOf(graph, types, layer, granularity),
  );
  const isInteger = wished.map(({ wish }, i) => wish.activation !== "float" && reasons[i] === undefined);
  if (isInteger.includes(true) && weight.bits === 8 && !weight.symmetric) {
    weight = { ...weight, symmetric: true };
    shared.push("symmetric weights: integer kernels take no zero point per channel, and 8-bit codes leave no room");
  }
  return wished.map(({ layer, wish }, i) => ({
    layer,
    weight,
    activation: isInteger[i] ? wish.activation : "float",
    remarks: reasons[i] === undefined ? shared : [...shared, `activations stay in float: ${reasons[i]}`],
  }));
}

function isSameFormat(a: WeightFormat, b: WeightFormat): boolean {
  const sizes = [a, b].map(({ granularity }) => (granularity.kind === "per-group" ? granularity.groupSize : 0));
  return (
    a.bits === b.bits &&
    a.symmetric === b.symmetric &&
    a.range === b.range &&
    JSON.stringify(a.rounding) === JSON.stringify(b.rounding) &&
    a.granularity.kind === b.granularity.kind &&
    sizes[0] === sizes[1]
  );
}

function mayBeFloat(types: ValueTypes, value: ValueName): boolean {
  const type = elementTypeOf(types, value);
  return type === undefined || isFloatType(type);
}

/** Why a product runs in float although its operands were to be quantized. */
function productReasonOf(types: ValueTypes, { operands }: ActivationProduct): string | undefined {
  const found = operands.map((value) => elementTypeOf(types, value));
  if (found.every((type) => type === "float32")) return undefined;
  const other = found.find((type) => type !== "float32") ?? "an unknown type";
  return `onnxruntime has no integer kernels for products in ${other}`;
}

/** Why a layer runs in float although its activations were to be quantized. */
function floatReasonOf(graph: Graph, types: ValueTypes, layer: Layer, granularity: Granularity): string | undefined {
  if (layer.floatReason) return layer.floatReason;
  if (granularity.kind === "per-group") return "onnxruntime has no integer kernel for a scale per group";
  const type = layer.data === undefined ? undefined : elementTypeOf(types, layer.data);
  if (type !== "float32") return `onnxruntime has no integer kernels for layers in ${type ?? "an unknown type"}`;
  const rank = graph.constant(layer.weight)?.shape.length ?? 0;
  if (isOperator(layer.node, "MatMul") && rank > 2 && granularity.kind !== "per-tensor") {
    return "onnxruntime has no integer kernel for a batch of matrices with a scale per column";
  }
  if (isOperator(layer.node, "Conv") && graph.isOutput(behindActivation(graph, layer.node.outputs[0]))) {
    return "its output is an output of the model, and the integer kernel of Conv returns no floats";
  }
  return undefined;
}
