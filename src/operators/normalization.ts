import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator, onlyConsumer } from "../graph/node.js";
import { isFloatType } from "../tensor/element-type.js";

/** A constant with a value for each channel, and where it is read. */
export interface ChannelParameter {
  readonly node: Node;
  readonly input: number;
}

/** Values that are normalized, then multiplied and shifted channel by channel; the channels lie along the last axis. */
export interface Normalization {
  readonly output: ValueName;
  readonly channels: number;
  readonly gain: ChannelParameter;
  /** What is added; undefined where nothing can be. The node may read none yet. */
  readonly shift: ChannelParameter | undefined;
}

/** Operators that are a whole normalization: input, gain, and what is added. */
const whole = ["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"];

/**
 * The normalization that computes a value: LayerNormalization, RMSNormalization, or what exporters write them out to, which
 * ends in a quotient by a square root, times a constant, plus a constant.
 */
export function findNormalization(graph: Graph, output: ValueName): Normalization | undefined {
  const node = graph.producer(output);
  if (node === undefined) return undefined;
  return whole.includes(node.opType) ? wholeNormalization(graph, node) : writtenOut(graph, node);
}

function wholeNormalization(graph: Graph, node: Node): Normalization | undefined {
  const [, ...others] = node.outputs;
  const channels = channelCount(graph, node.inputs[1]);
  if (others.some((other) => other !== "") || channels === undefined) return undefined;
  const gain = { node, input: 1 };
  if (node.opType !== "LayerNormalization") return { output: node.outputs[0], channels, gain, shift: undefined };
  const bias = node.inputs[2] ?? "";
  if (bias !== "" && channelCount(graph, bias) !== channels) return undefined;
  return { output: node.outputs[0], channels, gain, shift: { node, input: 2 } };
}

function writtenOut(graph: Graph, node: Node): Normalization | undefined {
  if (!isOperator(node, "Add")) return isShiftedBehind(graph, node) ? undefined : scaled(graph, node);
  const input = constantSide(graph, node);
  const product = input === undefined ? undefined : graph.producer(node.inputs[1 - input]);
  if (input === undefined || product === undefined || onlyConsumer(graph, product.outputs[0]) !== node)
    return undefined;
  const found = scaled(graph, product);
  const isSame = found !== undefined && channelCount(graph, node.inputs[input]) === found.channels;
  return isSame ? { ...found, output: node.outputs[0], shift: { node, input } } : undefined;
}

/** What is shifted behind its gain is one normalization with it. */
function isShiftedBehind(graph: Graph, node: Node): boolean {
  const reader = onlyConsumer(graph, node.outputs[0]);
  return isOperator(reader, "Add") && constantSide(graph, reader) !== undefined;
}

/** Normalized values times a constant. */
function scaled(graph: Graph, node: Node): Normalization | undefined {
  const input = isOperator(node, "Mul") ? constantSide(graph, node) : undefined;
  if (input === undefined || !isNormalized(graph, node.inputs[1 - input])) return undefined;
  const channels = channelCount(graph, node.inputs[input]);
  if (channels === undefined) return undefined;
  return { output: node.outputs[0], channels, gain: { node, input }, shift: undefined };
}

function constantSide(graph: Graph, node: Node): 0 | 1 | undefined {
  return ([1, 0] as const).find((side) => channelCount(graph, node.inputs[side]) !== undefined);
}

/** A quotient by a square root, or a product with one over it. */
function isNormalized(graph: Graph, value: ValueName): boolean {
  const { opType = "", inputs = [] } = graph.producer(value) ?? {};
  if (opType === "Cast") return isNormalized(graph, inputs[0]);
  if (opType === "Div") return isRoot(graph, inputs[1]);
  return opType === "Mul" && inputs.some((input) => isInverseRoot(graph, input));
}

function isInverseRoot(graph: Graph, value: ValueName): boolean {
  const { opType = "", inputs = [] } = graph.producer(value) ?? {};
  if (opType === "Reciprocal") return isRoot(graph, inputs[0]);
  if (opType === "Div") return isRoot(graph, inputs[1]);
  return opType === "Pow" && graph.constant(inputs[1]) !== undefined;
}

function isRoot(graph: Graph, value: ValueName): boolean {
  return isOperator(graph.producer(value), "Sqrt");
}

/** The size of a constant vector along the last axis; undefined for anything else. */
function channelCount(graph: Graph, value: ValueName): number | undefined {
  const tensor = graph.constant(value);
  if (tensor === undefined || !isFloatType(tensor.type)) return undefined;
  const channels = tensor.shape.at(-1) ?? 1;
  return channels > 1 && tensor.shape.slice(0, -1).every((size) => size === 1) ? channels : undefined;
}
