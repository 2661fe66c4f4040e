import type { Graph, Node } from "../graph/graph.js";
import { isOperator, labelOf, makeNode, onlyConsumer } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { elementTypeOf, shapeOf, type ValueTypes } from "../graph/value-types.js";

/**
 * A MatMul of matrices with the Add of its bias as one Gemm: onnxruntime makes that of it anyway, but too early for its
 * integer kernel to take the bias in.
 */
export function matMulToGemm(graph: Graph, types: ValueTypes): readonly GraphPatch[] {
  return graph.nodes.flatMap((node): GraphPatch[] => {
    const add = isOperator(node, "MatMul") ? onlyConsumer(graph, node.outputs[0]) : undefined;
    if (!isOperator(add, "Add") || !areMatrices(graph, types, node)) return [];
    const bias = add.inputs[0] === node.outputs[0] ? add.inputs[1] : add.inputs[0];
    const shape = graph.constant(bias)?.shape;
    const columns = shapeOf(types, node.inputs[1])?.[1];
    if (shape === undefined || shape.length !== 1 || shape[0] !== columns) return [];
    const gemm = makeNode("Gemm", [...node.inputs, bias], add.outputs, {}, labelOf(node));
    return [{ label: "MatMul and Add to Gemm", remove: [node, add], add: [gemm] }];
  });
}

/** A matrix times a constant matrix, in float32. */
function areMatrices(graph: Graph, types: ValueTypes, node: Node): boolean {
  const [left, right] = node.inputs;
  return (
    graph.constant(right)?.shape.length === 2 &&
    shapeOf(types, left)?.length === 2 &&
    elementTypeOf(types, left) === "float32"
  );
}
