import type { Graph } from "../graph/graph.js";
import { applyPatch } from "../graph/patch.js";
import type { ValueTypes } from "../graph/value-types.js";
import { writeCodeLimits } from "./write-code-limits.js";
import { writeIntegerBiases } from "./write-integer-biases.js";
import { writeIntegerProducts } from "./write-integer-products.js";
import { writeMovedCodes } from "./write-moved-codes.js";

/**
 * Brings a quantized network into the form in which onnxruntime finds its integer kernels; what it computes stays the
 * same but for the rounding of biases. The last thing before a model is written: compensations change biases, and look at
 * values in float that are gone afterwards.
 *
 * @param float the network before it was quantized, with the types of its values
 */
export function lowerToIntegers(graph: Graph, float: Graph, types: ValueTypes): Graph {
  const withProducts = applyPatch(graph, writeIntegerProducts(graph, float, types));
  const withBiases = applyPatch(withProducts, writeIntegerBiases(withProducts));
  const withLimits = applyPatch(withBiases, writeCodeLimits(withBiases));
  return applyPatch(withLimits, writeMovedCodes(withLimits));
}
