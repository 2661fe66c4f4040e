import type { Graph, Node, ValueName } from "../graph/graph.js";
import { floatAttribute, intAttribute, isOperator, onlyConsumer } from "../graph/node.js";
import { isFloatType } from "../tensor/element-type.js";
import { viewAxis } from "../tensor/shape.js";
import { float64Values, floatTensor, type Tensor } from "../tensor/tensor.js";

/** A layer with a constant weight, whose outputs of one channel all come from one slice of it. */
export interface LinearLayer {
  readonly node: Node;
  /** The `Add` that gives a MatMul its bias. */
  readonly biasNode: Node | undefined;
  readonly weightName: ValueName;
  readonly weight: Tensor;
  /** Axis of the weight along which the channels stand, in `groups` runs one after the other. */
  readonly weightAxis: number;
  readonly groups: number;
  readonly channels: number;
  /** One number for each channel, the layer's own factors taken into account; undefined where it has no bias. */
  readonly bias: Float64Array | undefined;
  readonly biasName: ValueName | undefined;
  /** Where the output has its channels, from the end if negative. */
  readonly outputAxis: number;
  /** Number of axes of the output, where the operator decides it. */
  readonly outputRank: number | undefined;
}

/** The layer that writes a value; a reason where none does, or not one whose weight can be changed. */
export function findLayer(graph: Graph, value: ValueName): LinearLayer | string {
  const node = graph.producer(value);
  if (node === undefined) return "no layer writes its input";
  if (isOperator(node, "Add")) return findBiasedProduct(graph, node) ?? "stands behind Add, not behind a layer";
  if (!isOperator(node, "Conv", "ConvTranspose", "Gemm", "MatMul"))
    return `stands behind ${node.opType}, not behind a layer`;
  const weight = graph.constant(node.inputs[1]);
  if (weight === undefined || !isFloatType(weight.type)) return "the layer's weight is not constant";
  const biasName = node.inputs[2] || undefined;
  const place = placeOf(node, weight);
  if (place === undefined) return "the layer's weight is a vector";
  const bias = biasName === undefined ? undefined : readBias(graph, node, biasName, place.channels);
  if (biasName !== undefined && bias === undefined) return "the layer's bias is not one constant for each channel";
  return { node, biasNode: undefined, weightName: node.inputs[1], weight, ...place, bias, biasName };
}

/** The weight with the slice of each channel multiplied by that channel's scale, in float64 and rounded once. */
export function scaleWeight(layer: LinearLayer, scale: Float64Array): Tensor {
  const { outerSize, size, innerSize } = viewAxis(layer.weight.shape, layer.weightAxis);
  const values = Float64Array.from(float64Values(layer.weight));
  for (let outer = 0; outer < outerSize; outer++) {
    const firstChannel = Math.floor((outer * layer.groups) / outerSize) * size;
    for (let i = 0; i < size; i++) {
      const factor = scale[layer.groups === 1 ? i : firstChannel + i];
      const start = (outer * size + i) * innerSize;
      for (let inner = 0; inner < innerSize; inner++) values[start + inner] *= factor;
    }
  }
  return floatTensor(layer.weight.type, layer.weight.shape, values);
}

type Place = Pick<LinearLayer, "weightAxis" | "groups" | "channels" | "outputAxis" | "outputRank">;

function placeOf(node: Node, { shape }: Tensor): Place | undefined {
  switch (node.opType) {
    case "Conv":
      return { weightAxis: 0, groups: 1, channels: shape[0], outputAxis: 1, outputRank: shape.length };
    case "ConvTranspose": {
      const groups = intAttribute(node, "group", 1);
      return { weightAxis: 1, groups, channels: shape[1] * groups, outputAxis: 1, outputRank: shape.length };
    }
    case "Gemm": {
      const weightAxis = intAttribute(node, "transB", 0) === 0 ? 1 : 0;
      return { weightAxis, groups: 1, channels: shape[weightAxis], outputAxis: 1, outputRank: 2 };
    }
    default: {
      const weightAxis = shape.length - 1;
      if (weightAxis < 1) return undefined;
      return { weightAxis, groups: 1, channels: shape[weightAxis], outputAxis: -1, outputRank: undefined };
    }
  }
}

/** A Gemm's bias counts `beta` times, and may be a single number. */
function readBias(graph: Graph, node: Node, name: ValueName, channels: number): Float64Array | undefined {
  const tensor = graph.constant(name);
  if (tensor === undefined || !isFloatType(tensor.type)) return undefined;
  const factor = isOperator(node, "Gemm") ? floatAttribute(node, "beta", 1) : 1;
  return spread(tensor, channels)?.map((value) => value * factor);
}

/** One number for each channel of a constant whose channels stand on its last axis. */
function spread(tensor: Tensor, channels: number): Float64Array | undefined {
  const { shape } = tensor;
  const last = shape.at(-1) ?? 1;
  if (shape.slice(0, -1).some((size) => size !== 1) || (last !== 1 && last !== channels)) return undefined;
  const values = float64Values(tensor);
  return last === channels ? Float64Array.from(values) : new Float64Array(channels).fill(values[0]);
}

/** A MatMul and the `Add` of a vector behind it. */
function findBiasedProduct(graph: Graph, add: Node): LinearLayer | undefined {
  for (const side of [0, 1]) {
    const bias = graph.constant(add.inputs[1 - side]);
    const product = graph.producer(add.inputs[side]);
    if (bias === undefined || !isFloatType(bias.type) || !isOperator(product, "MatMul")) continue;
    const layer = findLayer(graph, add.inputs[side]);
    if (typeof layer === "string" || onlyConsumer(graph, add.inputs[side]) !== add || bias.shape.length > 1) continue;
    const values = spread(bias, layer.channels);
    if (values) return { ...layer, biasNode: add, bias: values, biasName: add.inputs[1 - side] };
  }
  return undefined;
}
