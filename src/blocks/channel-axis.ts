import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { permutationOf } from "../operators/weight.js";
import type { Section } from "./sections.js";

/** Their channels lie along the second axis. */
const ofMaps: readonly string[] = [
  ...["Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN"],
  ...["MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool"],
];

/** Their channels lie along the last axis. */
const ofVectors: readonly string[] = ["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"];

/** What leaves every axis where it is. */
const inPlace: readonly string[] = [
  ...["Abs", "Add", "Cast", "Celu", "Clip", "Concat", "Div", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid"],
  ...["HardSwish", "Identity", "LeakyRelu", "Mish", "Mul", "Neg", "PRelu", "Pow", "Relu", "Selu", "Sigmoid", "Slice"],
  ...["Softplus", "Softsign", "Sqrt", "Sub", "Tanh", "Where"],
];

/**
 * Along which axis of what leaves a section its channels lie, as the nearest layer, normalization or pooling on the way back has
 * it: a block of vectors may hold convolutions, and one of maps products, with a Transpose on either side. Where the way is lost,
 * convolutions speak for maps.
 *
 * @returns counted from the start; undefined where the rank of the exit is not known
 */
export function channelAxisOf(
  graph: Graph,
  types: ValueTypes,
  { exit, nodes }: Pick<Section, "exit" | "nodes">,
): number | undefined {
  const rank = shapeOf(types, exit)?.length;
  if (rank === undefined) return undefined;
  const inside = new Set(nodes);
  // Which axis of the exit each axis of a value is.
  const open: { readonly value: ValueName; readonly axes: readonly number[] }[] = [
    { value: exit, axes: Array.from({ length: rank }, (_, axis) => axis) },
  ];
  const seen = new Set([exit]);
  for (let place = open.shift(); place !== undefined; place = open.shift()) {
    const node = graph.producer(place.value);
    if (node === undefined || !inside.has(node)) continue;
    if (isOperator(node, ...ofMaps)) return place.axes[1];
    if (isOperator(node, ...ofVectors) || isProductWithWeight(graph, node)) return place.axes[rank - 1];
    const axes = axesBefore(node, place.axes);
    if (axes === undefined) continue;
    for (const value of node.inputs) {
      if (seen.has(value) || shapeOf(types, value)?.length !== rank) continue;
      seen.add(value);
      open.push({ value, axes });
    }
  }
  const isConvolved = rank > 2 && nodes.some((node) => isOperator(node, "Conv", "ConvTranspose"));
  return isConvolved ? 1 : rank - 1;
}

function isProductWithWeight(graph: Graph, node: Node): boolean {
  return isOperator(node, "MatMul", "Gemm") && graph.constant(node.inputs[1]) !== undefined;
}

function axesBefore(node: Node, axes: readonly number[]): readonly number[] | undefined {
  if (isOperator(node, ...inPlace)) return axes;
  if (!isOperator(node, "Transpose")) return undefined;
  const before = [...axes];
  for (const [axis, from] of permutationOf(node, axes.length).entries()) before[from] = axes[axis];
  return before;
}
