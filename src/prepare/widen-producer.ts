import type { Graph, Node, ValueName } from "../graph/graph.js";
import { intAttribute, isOperator, onlyConsumer, withAttributes, withInputs, withOutputs } from "../graph/node.js";
import type { PatchWriter } from "../graph/patch-writer.js";
import { takeSlices } from "../tensor/take-slices.js";
import type { Tensor } from "../tensor/tensor.js";

/** Operators that treat each element, or each channel of a picture, for itself and hold nothing for each channel. */
const elementwise = [
  "Relu",
  "LeakyRelu",
  "Elu",
  "Selu",
  "Celu",
  "Sigmoid",
  "HardSigmoid",
  "HardSwish",
  "Tanh",
  "Softplus",
  "Softsign",
  "Gelu",
  "Mish",
  "Clip",
  "Identity",
];
const pools = ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"];
const withConstants = ["Add", "Sub", "Mul", "Div", "PRelu"];

/** The nodes from a layer to the activation that it computes, all of which could compute some channels twice. */
export interface Widening {
  /** The weight of the layer that the channels come from. */
  readonly weight: ValueName;
  /** From the activation up to the layer. */
  readonly chain: readonly WideNode[];
  /** Constants that the layer and the nodes behind it hold for one channel. */
  readonly weightsPerChannel: number;
}

interface WideNode {
  readonly node: Node;
  /** Constants that hold something for each channel: input of the node and axis of the constant. */
  readonly constants: readonly { readonly input: number; readonly axis: number }[];
}

/**
 * How an activation could have some of its channels twice without a node that copies them: by rows that its layer has twice.
 * Only where nobody else reads what lies between, and where every node between keeps channels apart.
 *
 * @param axis of the channels of the activation: 1, or -1 for the last one
 */
export function findWidening(graph: Graph, activation: ValueName, axis: number): Widening | undefined {
  const chain: WideNode[] = [];
  for (let value = activation; onlyConsumer(graph, value) !== undefined; ) {
    const node = graph.producer(value);
    if (node === undefined || node.outputs.length > 1) return undefined;
    const layer = asLayer(graph, node, axis);
    if (layer !== undefined) {
      const whole = [...chain, layer];
      const isPicture = graph.constant(node.inputs[1])?.shape.length === 4;
      const isKnown = axis === -1 || isPicture || chain.every((wide) => !hasBroadcastConstants(wide));
      if (!isKnown || !whole.every((wide) => ownsConstants(graph, wide))) return undefined;
      return {
        weight: node.inputs[1],
        chain: whole,
        weightsPerChannel: sum(whole.map((wide) => perChannel(graph, wide))),
      };
    }
    const next = asChannelwise(graph, node, axis);
    if (next === undefined) return undefined;
    chain.push(next.wide);
    value = next.source;
  }
  return undefined;
}

/** @returns the activation with its channels in the given order */
export function widen(writer: PatchWriter, graph: Graph, { chain }: Widening, channels: readonly number[]) {
  const names = new Map<ValueName, ValueName>();
  for (const { node } of chain) names.set(node.outputs[0], writer.names.fresh(`${node.outputs[0]}_split`));
  for (const { node, constants } of chain) {
    for (const { input, axis } of constants) {
      const tensor = graph.constant(node.inputs[input]) as Tensor;
      writer.initializers.set(node.inputs[input], takeSlices(tensor, axis, channels));
    }
    const groups = intAttribute(node, "group", 1);
    const wide = groups === 1 ? node : withAttributes(node, { group: channels.length });
    const inputs = node.inputs.map((input) => names.get(input) ?? input);
    writer.add(withOutputs(withInputs(wide, inputs), [names.get(node.outputs[0]) as ValueName]));
  }
  return { value: names.get(chain[0].node.outputs[0]) as ValueName, removed: chain.map(({ node }) => node) };
}

/** A layer whose output channels are rows of its weight. */
function asLayer(graph: Graph, node: Node, axis: number): WideNode | undefined {
  const weight = graph.constant(node.inputs[1] ?? "");
  if (weight === undefined) return undefined;
  const bias = node.inputs[2] ?? "";
  if (isOperator(node, "Conv") && axis === 1 && intAttribute(node, "group", 1) === 1) {
    return withBias(graph, node, { input: 1, axis: 0 });
  }
  if (axis !== -1 || weight.shape.length !== 2) return undefined;
  if (isOperator(node, "MatMul")) return { node, constants: [{ input: 1, axis: 1 }] };
  if (!isOperator(node, "Gemm")) return undefined;
  const rowAxis = intAttribute(node, "transB", 0) === 1 ? 0 : 1;
  const isRow = bias === "" || graph.constant(bias)?.shape.join() === `${weight.shape[rowAxis]}`;
  return isRow ? withBias(graph, node, { input: 1, axis: rowAxis }) : undefined;
}

function withBias(graph: Graph, node: Node, weight: WideNode["constants"][number]): WideNode | undefined {
  const bias = node.inputs[2] ?? "";
  if (bias === "") return { node, constants: [weight] };
  return graph.constant(bias) === undefined ? undefined : { node, constants: [weight, { input: 2, axis: 0 }] };
}

function asChannelwise(
  graph: Graph,
  node: Node,
  axis: number,
): { readonly wide: WideNode; readonly source: ValueName } | undefined {
  const [source] = node.inputs;
  if (isOperator(node, ...elementwise)) return { wide: { node, constants: [] }, source };
  if (axis === 1 && isOperator(node, ...pools)) return { wide: { node, constants: [] }, source };
  if (axis === 1 && isOperator(node, "Conv")) {
    const weight = graph.constant(node.inputs[1]);
    const isDepthwise = weight?.shape[1] === 1 && weight.shape[0] === intAttribute(node, "group", 1);
    const wide = isDepthwise ? withBias(graph, node, { input: 1, axis: 0 }) : undefined;
    return wide && { wide, source };
  }
  if (!isOperator(node, ...withConstants)) return undefined;
  const at = node.inputs.findIndex((input) => graph.constant(input) !== undefined);
  const shape = graph.constant(node.inputs[at] ?? "")?.shape;
  if (shape === undefined) return undefined;
  const other = node.inputs[1 - at];
  if (shape.every((size) => size === 1)) return { wide: { node, constants: [] }, source: other };
  // A constant of as many axes as there are from the channels to the end, or of all axes, and with a value per channel only.
  const from = axis === -1 ? shape.length - 1 : shape.length === 4 ? 1 : shape.length === 3 ? 0 : -1;
  const isPerChannel = shape.every((size, i) => i === from || size === 1);
  return isPerChannel ? { wide: { node, constants: [{ input: at, axis: from }] }, source: other } : undefined;
}

/** On which axis a constant lies depends on how many axes the activation has. */
function hasBroadcastConstants({ node, constants }: WideNode): boolean {
  return isOperator(node, ...withConstants) && constants.length > 0;
}

/** Constants that somebody else reads have to stay as they are. */
function ownsConstants(graph: Graph, { node, constants }: WideNode): boolean {
  return constants.every(({ input }) => onlyConsumer(graph, node.inputs[input]) === node);
}

function perChannel(graph: Graph, { node, constants }: WideNode): number {
  return sum(
    constants.map(({ input, axis }) => {
      const { shape } = graph.constant(node.inputs[input]) as Tensor;
      return shape.reduce((product, size) => product * size, 1) / shape[axis];
    }),
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
