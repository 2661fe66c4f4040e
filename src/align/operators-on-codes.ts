import type { Graph, Node } from "../graph/graph.js";
import { floatAttribute, intAttribute, isStandard } from "../graph/node.js";
import { isFloatType } from "../tensor/element-type.js";
import { float32Tensor, float32Values, type Tensor } from "../tensor/tensor.js";

/** Where codes, their scale and their zero point stand among the inputs of an operator. */
export type Place = readonly [codes: number, scale: number, zeroPoint: number];

/** An operator on codes as the float operator between DequantizeLinear and QuantizeLinear. */
export interface OpenForm {
  readonly opType: string;
  readonly operands: readonly Place[];
  /** Scale and zero point of the result. */
  readonly result: readonly [scale: number, zeroPoint: number];
  /** An int32 input in units of the product of the first two operands' scales. */
  readonly bias?: number;
  /** Axis of a weight along which its scales lie, where it has several. */
  readonly channelAxis?: (rank: number) => number;
  /** The float operator's attributes, where they differ. */
  readonly attributes?: Node["attributes"];
}

/** Operators whose outputs are elements of their first input: on codes they have the grid of the input. */
export const movingOperators: readonly string[] = [
  ...[
    "MaxPool",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Gather",
    "Split",
    "Expand",
    "Tile",
  ],
  ...["DepthToSpace", "SpaceToDepth", "Resize"],
];

/** How an operator on codes is opened; undefined for any other. */
export function openForm(node: Node): OpenForm | undefined {
  const pair: readonly Place[] = [
    [0, 1, 2],
    [3, 4, 5],
  ];
  if (isStandard(node)) {
    if (node.opType === "QLinearConv") {
      return { opType: "Conv", operands: pair, result: [6, 7], bias: 8, channelAxis: () => 0 };
    }
    if (node.opType === "QLinearMatMul") {
      return { opType: "MatMul", operands: pair, result: [6, 7], channelAxis: (rank) => rank - 1 };
    }
    return undefined;
  }
  if (node.domain !== "com.microsoft") return undefined;
  const single: readonly Place[] = [[0, 1, 2]];
  switch (node.opType) {
    case "QGemm": {
      // The unit of its bias holds alpha; whoever writes the operator writes 1.
      if (floatAttribute(node, "alpha", 1) !== 1 || (node.inputs[7] ?? "") === "") return undefined;
      const channelAxis = () => (intAttribute(node, "transB", 0) === 1 ? 0 : 1);
      return { opType: "Gemm", operands: pair, result: [7, 8], bias: 6, channelAxis };
    }
    case "QLinearAdd":
    case "QLinearMul":
      return { opType: node.opType.slice("QLinear".length), operands: pair, result: [6, 7] };
    case "QLinearSigmoid":
    case "QLinearLeakyRelu":
    case "QLinearAveragePool":
    case "QLinearGlobalAveragePool":
    case "QLinearSoftmax": {
      const attributes = new Map([...node.attributes].filter(([key]) => key !== "opset" && key !== "channels_last"));
      return { opType: node.opType.slice("QLinear".length), operands: single, result: [3, 4], attributes };
    }
    case "QLinearConcat": {
      const count = Math.floor((node.inputs.length - 2) / 3);
      const operands = Array.from({ length: count }, (_, i): Place => [2 + 3 * i, 3 + 3 * i, 4 + 3 * i]);
      return { opType: "Concat", operands, result: [0, 1] };
    }
    default:
      return undefined;
  }
}

/** Input scale times weight scale, for each channel or for all. */
export function unitOf(graph: Graph, node: Node, { operands }: OpenForm): Tensor | undefined {
  const [input, weight] = operands.map(([, scale]) => graph.constant(node.inputs[scale]));
  if (input === undefined || weight === undefined || !isFloatType(input.type) || !isFloatType(weight.type))
    return undefined;
  const [factor] = float32Values(input);
  const values = float32Values(weight).map((scale) => scale * factor);
  return float32Tensor(values.length === 1 ? [] : [values.length], values);
}
