import type { ChannelLines } from "../calibrate/channel-lines.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { intAttribute, isOperator, withOutputs } from "../graph/node.js";
import { applyPatch, type GraphPatch, joinPatches } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { float32Values, floatTensor, type Tensor } from "../tensor/tensor.js";
import { addToBias, type BiasPlace, biasValues } from "./fold-bias.js";

/** A layer's output with its bias, and the product before it. */
export interface AffinePlace extends BiasPlace {
  /** What the layer's own node computes. */
  readonly product: ValueName;
}

/**
 * Puts a line per channel behind a layer: the gains into the scales of its weight (or into the weight, where that is
 * float), the offsets into its bias. Where another node reads the weight or its scales, or they are not per output
 * channel, a Mul and an Add take their place.
 */
export function writeLines(graph: Graph, place: AffinePlace, { gain, offset }: ChannelLines): GraphPatch {
  const layer = graph.producer(place.product);
  const scaled = layer && scaledWeight(graph, layer, gain);
  const bias = biasValues(graph, place, gain.length);
  if (scaled === undefined || bias === undefined) return writeNodes(graph, place, { gain, offset });
  const change = offset.map((value, c) => value + (gain[c] - 1) * bias[c]);
  const gained: GraphPatch = { label: `scale the weight of ${place.product}`, initializers: new Map([scaled]) };
  return joinPatches(`lines of ${place.value}`, [gained, addToBias(applyPatch(graph, gained), place, change)]);
}

/** The initializer that has to change so that each output channel gets a factor; undefined where none can. */
function scaledWeight(graph: Graph, layer: Node, gain: Float64Array): readonly [ValueName, Tensor] | undefined {
  const isProduct = isOperator(layer, "Conv", "MatMul", "Gemm");
  const weight = layer.inputs[1];
  const dequantize = graph.producer(weight);
  const source = dequantize === undefined ? weight : dequantize.inputs[1];
  if (!isProduct || !isOnlyRead(graph, weight) || !isOnlyRead(graph, source)) return undefined;
  const tensor = graph.constant(source);
  if (tensor?.type !== "float32" && tensor?.type !== "float16") return undefined;
  if (dequantize === undefined) return [source, scaleAlong(tensor, outputAxis(layer, tensor.shape.length), gain)];
  if (!isOperator(dequantize, "DequantizeLinear") || tensor.shape.length !== 1) return undefined;
  const axis = intAttribute(dequantize, "axis", 1);
  const isFromEnd = axis < 0 || isOperator(layer, "MatMul");
  // The rank of the codes decides for MatMul alone, whose output channels lie along the last axis.
  const rank = graph.constant(dequantize.inputs[0])?.shape.length ?? (isFromEnd ? 2 : axis + 1);
  const isOutput = (axis < 0 ? axis + rank : axis) === outputAxis(layer, rank);
  return isOutput && tensor.shape[0] === gain.length ? [source, scaleAlong(tensor, 0, gain)] : undefined;
}

function isOnlyRead(graph: Graph, value: ValueName): boolean {
  return graph.consumers(value).length === 1 && !graph.isOutput(value);
}

/** Along which the output channels lie in the weight that a node reads. */
function outputAxis(layer: Node, rank: number): number {
  if (isOperator(layer, "Conv")) return 0;
  return isOperator(layer, "Gemm") && intAttribute(layer, "transB", 0) === 1 ? 0 : rank - 1;
}

function scaleAlong(tensor: Tensor, axis: number, gain: Float64Array): Tensor {
  const inner = tensor.shape.slice(axis + 1).reduce((count, size) => count * size, 1);
  const values = float32Values(tensor).map((value, i) => value * gain[Math.floor(i / inner) % gain.length]);
  return floatTensor(tensor.type, tensor.shape, values);
}

function writeNodes(graph: Graph, { value, axisFromEnd, elementType }: AffinePlace, lines: ChannelLines): GraphPatch {
  const producer = graph.producer(value);
  if (producer === undefined) throw new Error(`${value} is computed by no node`);
  const writer = new PatchWriter(createNameSource(graph));
  const raw = writer.names.fresh(`${value}_uncompensated`);
  const outputs = producer.outputs.map((output) => (output === value ? raw : output));
  writer.add(withOutputs(producer, outputs));
  const shape = [lines.gain.length, ...new Array<number>(-axisFromEnd - 1).fill(1)];
  const [gain, offset] = [lines.gain, lines.offset].map((values, i) =>
    writer.constant(`${value}_${i === 0 ? "gain" : "offset"}`, floatTensor(elementType, shape, values)),
  );
  const scaled = writer.node("Mul", [raw, gain], `${value}_scaled`);
  writer.nodeTo(value, "Add", [scaled, offset]);
  return writer.finish(`lines of ${value}`, { remove: [producer] });
}
