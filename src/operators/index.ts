import type { Graph, Node } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";
import type { ValueTypes } from "../graph/value-types.js";
import { isFloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { convolution, transposedConvolution } from "./convolution.js";
import { embedding } from "./embedding.js";
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

/** What a graph offers to quantize, and the large constants it does not offer, with the reason. */
export function findLayers(graph: Graph, types: ValueTypes): FoundLayers {
  const layers: Layer[] = [];
  const products: ActivationProduct[] = [];
  const rejected: Rejected[] = [];
  for (const node of graph.nodes) {
    const family = layerFamilies.find((candidate) => isOperator(node, ...candidate.opTypes));
    const found = family?.describe(node, graph, types) ?? [];
    if ("reason" in found) rejected.push(found);
    else {
      const captured = found.filter((layer) => isCaptured(graph, layer.weight));
      for (const layer of captured) rejected.push({ node, reason: `a subgraph reads ${layer.weight} too` });
      layers.push(...found.filter((layer) => !captured.includes(layer)));
      if (found.length > 0) continue;
      if (isActivationProduct(node, graph)) products.push({ node, operands: [node.inputs[0], node.inputs[1]] });
      else if (readsNotableConstant(node, graph)) rejected.push({ node, reason: unknownReason(node) });
    }
  }
  return { layers, products, rejected };
}

function readsNotableConstant(node: Node, graph: Graph): boolean {
  return node.inputs.some((input) => {
    const tensor = graph.constant(input);
    return tensor !== undefined && isFloatType(tensor.type) && elementCount(tensor.shape) >= notableElements;
  });
}

function unknownReason(node: Node): string {
  const name = node.domain === "" ? node.opType : `${node.domain}.${node.opType}`;
  return `constants of ${name} are not quantized`;
}
