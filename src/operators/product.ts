import type { Graph, Node } from "../graph/graph.js";
import { floatAttribute, intAttribute, isOperator } from "../graph/node.js";
import { shapeOf } from "../graph/value-types.js";
import type { InputForm, LayerFamily } from "./layer.js";
import { type FoundWeight, findWeight, rankOf, sourceAxis } from "./weight.js";

/** `MatMul` with one constant operand: `[…, K, N]` on the right, or `[…, M, K]` on the left. */
export const matrixProduct: LayerFamily = {
  opTypes: ["MatMul"],
  describe(node, graph, types) {
    const right = findWeight(graph, node, 1);
    if (right) {
      const channelAxis = sourceAxis(graph, right, rankOf(graph, right.weight) - 1);
      // A vector on the left leaves the result with the channels as its only axis, which is the last one too.
      const inputForm = vectorsOf(graph, right, -1);
      return [{ node, ...right, channelAxis, outputAxis: -1, data: node.inputs[0], inputForm }];
    }
    const left = findWeight(graph, node, 0);
    if (!left) return [];
    const channelAxis = sourceAxis(graph, left, rankOf(graph, left.weight) - 2);
    const outputAxis = shapeOf(types, node.inputs[1])?.length === 1 ? -1 : -2;
    const inputForm = vectorsOf(graph, left, outputAxis);
    const floatReason = "onnxruntime has no integer kernel for a constant left operand with a scale per row";
    return [{ node, ...left, channelAxis, outputAxis, data: node.inputs[1], inputForm, floatReason }];
  },
};

/** `Gemm` with a constant second operand: `[K, N]`, or `[N, K]` with transB. */
export const generalProduct: LayerFamily = {
  opTypes: ["Gemm"],
  describe(node, graph) {
    const right = findWeight(graph, node, 1);
    if (right) {
      const axis = intAttribute(node, "transB", 0) === 1 ? 0 : 1;
      const channelAxis = sourceAxis(graph, right, axis);
      const floatReason = gemmReason(node, graph, graph.constant(right.weight)?.shape[channelAxis] ?? 0);
      const inputForm = vectorsOf(graph, right, intAttribute(node, "transA", 0) === 1 ? -2 : -1);
      return [{ node, ...right, channelAxis, outputAxis: -1, data: node.inputs[0], inputForm, floatReason }];
    }
    const left = findWeight(graph, node, 0);
    if (!left) return [];
    const channelAxis = sourceAxis(graph, left, intAttribute(node, "transA", 0) === 1 ? 1 : 0);
    const floatReason = "onnxruntime has no integer kernel for a constant left operand with a scale per row";
    const inputForm = vectorsOf(graph, left, intAttribute(node, "transB", 0) === 1 ? -1 : -2);
    return [{ node, ...left, channelAxis, outputAxis: -2, data: node.inputs[1], inputForm, floatReason }];
  },
};

/** A product of two activations, where onnxruntime has an integer kernel for it. */
export function isActivationProduct(node: Node, graph: Graph): boolean {
  return isOperator(node, "MatMul") && node.inputs.every((input) => graph.constant(input) === undefined);
}

/** A batch of matrices is not one product. */
function vectorsOf(graph: Graph, { weight }: FoundWeight, axis: -1 | -2): InputForm | undefined {
  return rankOf(graph, weight) === 2 ? { kind: "vectors", axis } : undefined;
}

function gemmReason(node: Node, graph: Graph, columns: number): string | undefined {
  if (intAttribute(node, "transA", 0) === 1) return "onnxruntime has no integer kernel for Gemm with transA";
  const isPlain = floatAttribute(node, "alpha", 1) === 1 && floatAttribute(node, "beta", 1) === 1;
  if (!isPlain) return "onnxruntime has no integer kernel for Gemm with alpha or beta other than 1";
  const bias = node.inputs[2] ?? "";
  if (bias === "" || isRow(graph.constant(bias)?.shape, columns)) return undefined;
  return "onnxruntime has no integer kernel for Gemm with a bias that is no constant row";
}

/** `[N]` or `[1, N]`: one value for each column. */
function isRow(shape: readonly number[] | undefined, columns: number): boolean {
  return shape !== undefined && shape.at(-1) === columns && shape.slice(0, -1).every((size) => size === 1);
}
