import type { Graph } from "../graph/graph.js";

/** Operators of quantized networks, of the standard and of onnxruntime. */
const pattern =
  /^(QLinear|DequantizeLinear$|MatMulInteger|ConvInteger$|MatMulNBits$|DynamicQuantize|QGemm$|QAttention$|GatherBlockQuantized$)/;

/** Whether somebody has quantized a network already. */
export function isQuantized(graph: Graph): boolean {
  return graph.nodes.some(({ opType }) => pattern.test(opType));
}
