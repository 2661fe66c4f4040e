import { randomOperators } from "../graph/fixed-values.js";
import { type Graph, type Node, subgraphsOf, type ValueName } from "../graph/graph.js";
import { functionOf, type Model } from "../graph/model.js";
import { isOperator, isStandard } from "../graph/node.js";
import { isSparseTensor } from "../onnx/sparse-tensor.js";
import { bitsOf, isFloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import type { Tensor } from "../tensor/tensor.js";

/** Operators whose result is not decided by their inputs, or is no tensor, or is how a quantized model stores things. */
const keptOperators = new Set([
  ...randomOperators,
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
  const shared = [...graph.initializers.keys()].filter((value) => isSharedWeight(graph, value));
  const kept = new Set<ValueName>();
  for (;;) {
    const foldable = foldableBut(model, kept);
    // What is kept takes the nodes behind it along, so that more of another constant may be left.
    const next = shared.filter((value) => !kept.has(value) && countLeft(graph, value, foldable) > 1);
    if (next.length === 0) return foldable;
    for (const value of next) kept.add(value);
  }
}

/** @param kept constants that shall stay as they are, and with them whatever reads them */
function foldableBut(model: Model, kept: ReadonlySet<ValueName>): ReadonlySet<Node> {
  const { graph } = model;
  const foldable = new Set<Node>();
  const isConstant = (value: ValueName) => {
    const producer = graph.producer(value);
    if (producer) return foldable.has(producer);
    return value === "" || (!kept.has(value) && isComputable(graph, value));
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
    isStandard(node) &&
    !keptOperators.has(node.opType) &&
    functionOf(functions, node) === undefined &&
    node.inputs.some((input) => input !== "") &&
    subgraphsOf(node).length === 0 &&
    !node.outputs.some((output) => graph.isOutput(output)) &&
    !node.inputs.some((input) => isStoredSmall(graph, node, input))
  );
}

function isSharedWeight(graph: Graph, value: ValueName): boolean {
  const tensor = graph.constant(value);
  return isLargeConstant(tensor) && isFloatType(tensor.type) && graph.consumers(value).length > 1;
}

/**
 * How many values are left of a constant when some nodes are computed: itself where another node reads it too, and each
 * result that another node reads. A weight that is read directly and turned around (a tied embedding) would stand there
 * twice.
 */
function countLeft(graph: Graph, constant: ValueName, foldable: ReadonlySet<Node>): number {
  const made = new Set([constant]);
  let count = 0;
  for (const value of made) {
    const readers = graph.consumers(value);
    if (readers.some((reader) => !foldable.has(reader))) count++;
    for (const output of readers.flatMap((reader) => (foldable.has(reader) ? reader.outputs : []))) made.add(output);
  }
  return count;
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
    if (producer !== undefined && foldable.delete(producer)) for (const input of producer.inputs) open.push(input);
  }
}
