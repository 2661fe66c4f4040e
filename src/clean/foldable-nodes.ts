import { type Graph, type Node, subgraphsOf, type ValueName } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { isOperator } from "../graph/node.js";
import { isSparseTensor } from "../onnx/sparse-tensor.js";
import { bitsOf, isFloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";

/** Operators whose result is not decided by their inputs, or is no tensor, or is how a quantized model stores things. */
const keptOperators = new Set([
  ...["Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"],
  ...["Optional", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SplitToSequence"],
  ...["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"],
  ...["ConvInteger", "MatMulInteger"],
]);

/** Constants with fewer elements cost next to nothing, however often they are stored. */
const largeConstant = 4096;

/**
 * The nodes that compute the same in every run: the standard's operators on nothing but constants. Nodes that unpack a
 * stored weight for a `DequantizeLinear` are not among them: a model that is small on disk stays small.
 */
export function findFoldable(model: Model): ReadonlySet<Node> {
  const { graph } = model;
  const foldable = new Set<Node>();
  const isConstant = (value: ValueName) => {
    const producer = graph.producer(value);
    return value === "" || (producer ? foldable.has(producer) : isComputable(graph, value));
  };
  for (const node of graph.nodes) {
    if (isCandidate(node, model) && node.inputs.every(isConstant)) foldable.add(node);
  }
  for (const node of graph.nodes) {
    if (node.opType === "DequantizeLinear") keepSources(graph, node.inputs[0], foldable);
  }
  return foldable;
}

function isCandidate(node: Node, { graph, functions }: Model): boolean {
  return (
    isOperator(node, node.opType) &&
    !keptOperators.has(node.opType) &&
    !functions.has(`${node.domain}::${node.opType}`) &&
    node.inputs.some((input) => input !== "") &&
    subgraphsOf(node).length === 0 &&
    !node.outputs.some((output) => graph.isOutput(output)) &&
    !node.inputs.some((input) => wouldBeStoredTwice(graph, node, input) || isStoredSmall(graph, node, input))
  );
}

/** A weight that several nodes read, one of them turned around (a tied embedding): folded, it would stand there twice. */
function wouldBeStoredTwice(graph: Graph, node: Node, input: ValueName): boolean {
  const tensor = graph.constant(input);
  return (
    isLargeConstant(tensor) && isFloatType(tensor.type) && graph.consumers(input).some((reader) => reader !== node)
  );
}

/** Codes on their way to floats: the model was made small on purpose. */
function isStoredSmall(graph: Graph, node: Node, input: ValueName): boolean {
  const tensor = graph.constant(input);
  return isLargeConstant(tensor) && bitsOf(tensor.type) <= 8 && isOperator(node, "Cast", "BitShift", "Mod");
}

function isLargeConstant(tensor: Tensor | undefined): tensor is Tensor {
  return tensor !== undefined && elementCount(tensor.shape) >= largeConstant;
}

function isComputable(graph: Graph, value: ValueName): boolean {
  const tensor = graph.constant(value);
  return tensor !== undefined && tensor.type !== "string" && !isSparseTensor(tensor);
}

function keepSources(graph: Graph, value: ValueName, foldable: Set<Node>): void {
  const open = [value];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const producer = graph.producer(next);
    if (producer !== undefined && foldable.delete(producer)) open.push(...producer.inputs);
  }
}
