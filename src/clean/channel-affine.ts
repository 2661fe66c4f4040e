import type { Graph, Node, ValueName } from "../graph/graph.js";
import { floatAttribute, intAttribute, isOperator } from "../graph/node.js";
import { isFloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { float64Values, type Tensor } from "../tensor/tensor.js";

/** A node that computes `scale · x + shift`, with numbers of their own for each channel. */
export interface ChannelAffine {
  readonly node: Node;
  /** The value x. */
  readonly input: ValueName;
  /** Where x has its channels; from the end if negative. Undefined where all channels share the numbers. */
  readonly axis: number | undefined;
  /** x has at least so many axes, else the node would add some. */
  readonly leastRank: number;
  /** One number for each channel, or a single one. */
  readonly scale: Float64Array;
  readonly shift: Float64Array;
}

const arithmetic = ["Add", "Sub", "Mul", "Div"];

/** What a node does to each channel; a reason where a BatchNormalization does not do that; undefined for other nodes. */
export function readAffine(graph: Graph, node: Node, opset: number): ChannelAffine | string | undefined {
  if (isOperator(node, "BatchNormalization")) return readBatchNormalization(graph, node, opset);
  return isOperator(node, ...arithmetic) ? readArithmetic(graph, node) : undefined;
}

/** y = gain · (x - mean) / sqrt(variance + epsilon) + bias */
function readBatchNormalization(graph: Graph, node: Node, opset: number): ChannelAffine | string {
  if (intAttribute(node, "training_mode", 0) !== 0) return "runs in training mode";
  if (node.outputs.slice(1).some((output) => output !== "")) return "gives out its statistics";
  if (opset < 9 && intAttribute(node, "spatial", 1) === 0) return "has statistics for each position";
  const parameters = node.inputs.slice(1, 5).map((name) => graph.constant(name));
  if (parameters.length < 4 || !parameters.every(isFloatTensor)) return "its parameters are not constant";
  const [gain, bias, mean, variance] = parameters.map(float64Values);
  if ([bias, mean, variance].some((values) => values.length !== gain.length)) return "its parameters differ in size";
  const epsilon = floatAttribute(node, "epsilon", 1e-5);
  const scale = gain.map((value, channel) => value / Math.sqrt(variance[channel] + epsilon));
  const shift = bias.map((value, channel) => value - mean[channel] * scale[channel]);
  return { node, input: node.inputs[0], axis: 1, leastRank: 2, scale, shift };
}

function readArithmetic(graph: Graph, node: Node): ChannelAffine | undefined {
  const side = [1, 0].find((candidate) => graph.constant(node.inputs[candidate]) !== undefined);
  if (side === undefined || graph.constant(node.inputs[1 - side])) return undefined;
  const constant = graph.constant(node.inputs[side]);
  if (!isFloatTensor(constant)) return undefined;
  const { shape } = constant;
  const wide = shape.flatMap((size, axis) => (size === 1 ? [] : [axis]));
  if (wide.length > 1 || elementCount(shape) === 0) return undefined;
  const values = float64Values(constant);
  const [ones, zeros] = [values.map(() => 1), values.map(() => 0)];
  const parts = ((): readonly [scale: Float64Array, shift: Float64Array] | undefined => {
    switch (node.opType) {
      case "Add":
        return [ones, values];
      case "Sub":
        return side === 1 ? [ones, values.map((value) => -value)] : [values.map(() => -1), values];
      case "Mul":
        return [values, zeros];
      default:
        return side === 1 ? [values.map((value) => 1 / value), zeros] : undefined;
    }
  })();
  if (parts === undefined) return undefined;
  const axis = wide.length === 0 ? undefined : wide[0] - shape.length;
  return { node, input: node.inputs[1 - side], axis, leastRank: shape.length, scale: parts[0], shift: parts[1] };
}

function isFloatTensor(tensor: Tensor | undefined): tensor is Tensor {
  return tensor !== undefined && isFloatType(tensor.type);
}
