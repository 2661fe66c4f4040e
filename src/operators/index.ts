import { type Graph, type Node, subgraphsOf, type ValueName } from "../graph/graph.js";
import type { LocalFunction, Model } from "../graph/model.js";
import { isOperator, operatorName } from "../graph/node.js";
import type { ValueTypes } from "../graph/value-types.js";
import { isFloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { inContext } from "./bodies.js";
import { convolution, transposedConvolution } from "./convolution.js";
import { embedding } from "./embedding.js";
import { functionsHolding } from "./functions.js";
import type { ActivationProduct, Layer, LayerFamily, Rejected } from "./layer.js";
import { generalProduct, isActivationProduct, matrixProduct } from "./product.js";
import { recurrent } from "./recurrent.js";
import { isCaptured } from "./weight.js";

/** Every operator family that Recoup quantizes. To support another one is a file and a line here. */
export const layerFamilies: readonly LayerFamily[] = [
  convolution,
  transposedConvolution,
  matrixProduct,
  generalProduct,
  embedding,
  recurrent,
];

export interface FoundLayers {
  readonly layers: readonly Layer[];
  readonly products: readonly ActivationProduct[];
  readonly rejected: readonly Rejected[];
}

/** Constants with fewer elements are biases, scales and shapes: nobody misses their quantization. */
const notableElements = 4096;

/**
 * What a graph offers to quantize, and the large constants and the layers inside bodies that it does not offer, with the
 * reason.
 */
export function findLayers(graph: Graph, types: ValueTypes): FoundLayers {
  const layers: Layer[] = [];
  const products: ActivationProduct[] = [];
  const rejected: Rejected[] = [];
  const transposes = new Set<Node>();
  const captured = new Map<ValueName, boolean>();
  const isTaken = (weight: ValueName) => {
    const known = captured.get(weight) ?? isCaptured(graph, weight);
    captured.set(weight, known);
    return known;
  };
  for (const node of graph.nodes) {
    const found = familyOf(node)?.describe(node, graph, types) ?? [];
    if ("reason" in found) rejected.push(found);
    else {
      for (const layer of found) {
        if (isTaken(layer.weight)) rejected.push({ node, reason: `a subgraph reads ${layer.weight} too` });
        else layers.push(layer);
        if (layer.transpose) transposes.add(layer.transpose);
      }
      if (found.length > 0) continue;
      const inside = countInBodies(node, graph);
      if (inside > 0) {
        rejected.push({ node, reason: `layers inside ${operatorName(node)} are not quantized: it holds ${inside}` });
      } else if (isActivationProduct(node, graph)) products.push({ node, operands: [node.inputs[0], node.inputs[1]] });
      else if (readsNotableConstant(node, graph)) rejected.push({ node, reason: unknownReason(node) });
    }
  }
  // What is said of the layer holds for the Transpose that it reads its weight through.
  return { layers, products, rejected: rejected.filter(({ node }) => !transposes.has(node)) };
}

/** The model's own functions in which a layer may stand: whether it is one shows where they are written out. */
export function functionsWithLayers(functions: Model["functions"]): ReadonlySet<LocalFunction> {
  return functionsHolding(functions, (node) => familyOf(node) !== undefined);
}

function countInBodies(node: Node, graph: Graph): number {
  return subgraphsOf(node)
    .map((body) => countLayers(inContext(body, graph)))
    .reduce((sum, count) => sum + count, 0);
}

/** Layers that are rejected for another reason do not count. */
function countLayers(graph: Graph): number {
  return graph.nodes.reduce((sum, node) => {
    const found = familyOf(node)?.describe(node, graph, new Map()) ?? [];
    return sum + ("reason" in found ? 0 : found.length) + countInBodies(node, graph);
  }, 0);
}

function familyOf(node: Node): LayerFamily | undefined {
  return layerFamilies.find((candidate) => isOperator(node, ...candidate.opTypes));
}

function readsNotableConstant(node: Node, graph: Graph): boolean {
  return node.inputs.some((input) => {
    const tensor = graph.constant(input);
    return tensor !== undefined && isFloatType(tensor.type) && elementCount(tensor.shape) >= notableElements;
  });
}

function unknownReason(node: Node): string {
  return `constants of ${operatorName(node)} are not quantized`;
}
