import type { Graph, Node, ValueName, ValueType } from "../../graph/graph.js";
import { intAttribute, intsAttribute, isStandard } from "../../graph/node.js";
import { elementTypeOf } from "../../tensor/element-code.js";
import type { ElementType } from "../../tensor/element-type.js";
import { constantTensor } from "../constant-tensor.js";

/** What the file itself says about a value, without a runtime: enough for converters that depend on a type. */
export interface KnownType {
  readonly elementType?: ElementType;
  readonly rank?: number;
}

type Lookup = (value: ValueName) => KnownType;

/**
 * Element types and ranks that follow from inputs, constants and operators. Shapes that an exporter noted on inner values
 * are not believed, since runtimes ignore wrong ones; element types are, since runtimes refuse wrong ones.
 *
 * @param outer what is known of the values that a subgraph captures
 */
export function collectKnownTypes(graph: Graph, outer?: Lookup): Lookup {
  const known = new Map<ValueName, KnownType>();
  const lookup: Lookup = (value) => known.get(value) ?? outer?.(value) ?? {};
  for (const [name, { type }] of graph.valueInfo) known.set(name, { elementType: tensorType(type) });
  for (const { name, type } of graph.inputs) {
    // What a body's inputs are given is never checked against their declared shapes.
    known.set(name, { elementType: tensorType(type), rank: outer === undefined ? rankOfType(type) : undefined });
  }
  for (const [name, tensor] of graph.initializers) {
    known.set(name, { elementType: tensor.type, rank: tensor.shape.length });
  }
  for (const node of graph.nodes) {
    if (!isStandard(node)) continue;
    const rank = rankAfter(node, graph, lookup);
    // The further outputs of other operators are of other types.
    for (const output of node.opType === "Split" ? node.outputs : node.outputs.slice(0, 1)) {
      known.set(output, { elementType: typeAfter(node, lookup) ?? known.get(output)?.elementType, rank });
    }
  }
  known.delete("");
  return lookup;
}

function tensorType(type: ValueType): ElementType | undefined {
  return type.kind === "tensor" ? type.elementType : undefined;
}

function rankOfType(type: ValueType): number | undefined {
  return type.kind === "tensor" ? type.shape?.length : undefined;
}

const comparing = [
  ...["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"],
  ...["And", "Or", "Xor", "Not", "IsNaN", "IsInf"],
];
const counting = ["Shape", "Size", "ArgMax", "ArgMin", "NonZero", "NonMaxSuppression"];
/** Operators whose inputs of data and parameters all have the type of the output. */
const uniform = [
  ...["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mean", "Sum", "Concat", "PRelu"],
  ...["Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization", "Einsum"],
];
/** Operators that work on each element, or on a neighbourhood of it, and keep type and rank. */
const keeping = [
  ...["Abs", "Ceil", "Clip", "Cos", "Dropout", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity"],
  ...["LeakyRelu", "Log", "LogSoftmax", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin"],
  ...["Softmax", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu", "Hardmax", "LRN", "LpNormalization"],
  ...["AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "MeanVarianceNormalization"],
  ...["Pad", "Slice", "Split", "Tile", "Upsample", "Resize", "DepthToSpace", "SpaceToDepth", "CumSum", "TopK"],
];
/** Further operators that move or join elements and keep their type. */
const moving = ["Expand", "Flatten", "Gather", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];

function typeAfter(node: Node, lookup: Lookup): ElementType | undefined {
  if (comparing.includes(node.opType)) return "bool";
  if (counting.includes(node.opType)) return "int64";
  if (node.opType === "Cast") return elementTypeOf(intAttribute(node, "to", 0));
  if (node.opType === "Constant") return constantTensor(node)?.type;
  if (node.opType === "Where") return lookup(node.inputs[1]).elementType ?? lookup(node.inputs[2]).elementType;
  if (uniform.includes(node.opType)) return node.inputs.map((input) => lookup(input).elementType).find(Boolean);
  const keeps = keeping.includes(node.opType) || moving.includes(node.opType) || node.opType.startsWith("Reduce");
  return keeps ? lookup(node.inputs[0]).elementType : undefined;
}

function rankAfter(node: Node, graph: Graph, lookup: Lookup): number | undefined {
  const rank = lookup(node.inputs[0]).rank;
  if (keeping.includes(node.opType) || node.opType === "BatchNormalization") return rank;
  if (node.opType.startsWith("Reduce")) return intAttribute(node, "keepdims", 1) === 1 ? rank : undefined;
  switch (node.opType) {
    case "Gemm":
    case "Flatten":
      return 2;
    case "Conv":
    case "ConvTranspose":
      return rank ?? lookup(node.inputs[1]).rank;
    case "Concat":
      return node.inputs.map((input) => lookup(input).rank).find((found) => found !== undefined);
    case "Cast":
    case "InstanceNormalization":
    case "PRelu":
      return rank;
    case "Constant":
      return constantTensor(node)?.shape.length;
    case "Transpose":
      return rank ?? intsAttribute(node, "perm")?.length;
    case "Reshape":
      return graph.constant(node.inputs[1])?.shape[0];
    case "Unsqueeze":
      return rank === undefined ? undefined : addRanks(rank, intsAttribute(node, "axes")?.length);
    case "Squeeze":
      return rank === undefined ? undefined : addRanks(rank, negated(intsAttribute(node, "axes")?.length));
    case "Gather":
      return rank === undefined ? undefined : addRanks(rank - 1, lookup(node.inputs[1]).rank);
    case "Add":
    case "Sub":
    case "Mul":
    case "Div":
    case "Pow":
    case "Where":
    case "Sum":
    case "Max":
    case "Min":
      return broadcastRank(node, lookup);
    case "MatMul":
      return productRank(node, lookup);
    default:
      return undefined;
  }
}

function addRanks(a: number, b: number | undefined): number | undefined {
  return b === undefined ? undefined : a + b;
}

function negated(value: number | undefined): number | undefined {
  return value === undefined ? undefined : -value;
}

function broadcastRank(node: Node, lookup: Lookup): number | undefined {
  const ranks = node.inputs.map((input) => lookup(input).rank);
  return ranks.includes(undefined) ? undefined : Math.max(...(ranks as number[]));
}

function productRank(node: Node, lookup: Lookup): number | undefined {
  const rank = broadcastRank(node, lookup);
  const isOfMatrices = node.inputs.every((input) => (lookup(input).rank ?? 0) >= 2);
  return isOfMatrices ? rank : undefined;
}
