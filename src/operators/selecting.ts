import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator, stringAttribute } from "../graph/node.js";
import type { ValueTypes } from "../graph/value-types.js";
import { shapeOf } from "../graph/value-types.js";
import { float32Values, integerValues } from "../tensor/tensor.js";

/**
 * Operators whose outputs are elements of their inputs, moved or picked (the largest of a window included): they commute
 * with quantization, so one grid holds before and after, and they run on the codes.
 */
const movingOperators: readonly string[] = [
  "Reshape",
  "Flatten",
  "Squeeze",
  "Unsqueeze",
  "Transpose",
  "Slice",
  "Gather",
  "Expand",
  "Tile",
  "DepthToSpace",
  "SpaceToDepth",
  "MaxPool",
];

/** The data inputs of a node that only selects elements; undefined for any other node. */
export function selectedInputs(node: Node, graph: Graph): readonly ValueName[] | undefined {
  if (node.outputs.filter((output) => output !== "").length > 1) return undefined;
  if (isOperator(node, ...movingOperators)) return [node.inputs[0]];
  if (isOperator(node, "Concat")) return node.inputs;
  if (isOperator(node, "Pad") && padsWithZero(node, graph)) return [node.inputs[0]];
  if (isOperator(node, "Resize") && stringAttribute(node, "mode", "nearest") === "nearest") return [node.inputs[0]];
  return undefined;
}

/** Whether a node copies elements that are there already: as codes that costs a quarter, and quantizing less before it. */
export function duplicatesElements(node: Node, graph: Graph): boolean {
  if (!isOperator(node, "Gather")) return false;
  const list = graph.constant(node.inputs[1]);
  if (list?.shape.length !== 1) return false;
  const indices = integerValues(list);
  return new Set(indices).size < indices.length;
}

/** Zero is a code of every grid; another fill value might not be. */
export function padsWithZero(node: Node, graph: Graph): boolean {
  if (stringAttribute(node, "mode", "constant") !== "constant") return true;
  const fill = node.inputs[2];
  if (fill === undefined || fill === "") return true;
  const tensor = graph.constant(fill);
  return tensor !== undefined && tensor.type === "float32" && float32Values(tensor).every((value) => value === 0);
}

/** Operators with an integer kernel that computes new values: each operand and the result has a grid of its own. */
export function computedInputs(node: Node, graph: Graph, types: ValueTypes): readonly ValueName[] | undefined {
  if (isOperator(node, "GlobalAveragePool", "AveragePool")) {
    // The integer kernels exist for pictures only.
    return shapeOf(types, node.inputs[0])?.length === 4 ? [node.inputs[0]] : undefined;
  }
  if (isOperator(node, "Sigmoid", "LeakyRelu")) return [node.inputs[0]];
  const isOfActivations = node.inputs.every((input) => graph.constant(input) === undefined);
  return isOperator(node, "Add", "Mul") && isOfActivations ? node.inputs : undefined;
}

/**
 * The value that a layer's quantized output stands for: behind a Relu or Clip that is the only reader, since
 * onnxruntime lets the limits of the grid do its work; else the output itself.
 */
export function behindActivation(graph: Graph, output: ValueName): ValueName {
  const readers = graph.consumers(output);
  if (readers.length !== 1 || graph.isOutput(output) || !isOperator(readers[0], "Relu", "Clip")) return output;
  return readers[0].inputs[0] === output ? readers[0].outputs[0] : output;
}
