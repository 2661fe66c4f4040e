import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { floatAttribute, isOperator, makeNode, onlyConsumer, withInputs, withOutputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import type { FloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { float32Values, float64Values, floatTensor, type Tensor } from "../tensor/tensor.js";
import { changeQuantized, type QuantizedConstant, quantizedConstant } from "./quantized-bias.js";

/** Why a constant cannot be added to what a node computes; undefined where it can. */
export function biasObstacle(node: Node): string | undefined {
  if (isOperator(node, "Gather")) return "a table has no bias";
  if (isOperator(node, "LSTM", "GRU", "RNN")) return `the bias of ${node.opType} acts inside the recurrence`;
  return undefined;
}

/** A place for a constant per output channel, or per position and channel. */
export interface BiasPlace {
  readonly value: ValueName;
  /** The channels' axis, counted from the end (negative). */
  readonly axisFromEnd: number;
  readonly elementType: FloatType;
  /** Lengths of all axes but the first, for a constant per position and channel. */
  readonly positions?: readonly number[];
}

/** A layer's output with its bias: behind the Add of a constant that exporters put after MatMul, else the output itself. */
export function biasedOutput(graph: Graph, types: ValueTypes, output: ValueName, axisFromEnd: number): ValueName {
  const add = onlyConsumer(graph, output);
  const shape = shapeOf(types, output);
  const channels = shape?.at(axisFromEnd);
  if (!isOperator(add, "Add") || shape === undefined || typeof channels !== "number") return output;
  // A constant of a higher rank would move the channels' axis.
  const bias = add.inputs.find((input) => isPerChannel(graph.constant(input)?.shape, axisFromEnd, channels));
  return (graph.constant(bias ?? "")?.shape.length ?? Infinity) <= shape.length ? add.outputs[0] : output;
}

/**
 * Adds a constant per output channel to a value: to the bias of the node that computes it, or as a new bias or Add. One per
 * position and channel goes into the constant of the Add that computes the value, or into a new Add.
 *
 * @param change `[C]`, or all positions and channels in the order of the output
 */
export function addToBias(graph: Graph, given: BiasPlace, change: Float64Array): GraphPatch {
  const place = { ...given, value: beforeGrid(graph, given.value) };
  const node = graph.producer(place.value);
  if (!node) throw new Error(`${place.value} is computed by no node`);
  const label = `compensate the bias of ${place.value}`;
  const { positions } = place;
  const input = positions ? addedInput(graph, node, positions) : biasInput(graph, node, place, change.length);
  if (input === undefined) return { label, ...insertAdd(graph, node, place, change) };
  // Gemm computes alpha · A · B + beta · C.
  const factor = isOperator(node, "Gemm") ? floatAttribute(node, "beta", 1) : 1;
  const scaled = change.map((value) => value / factor);
  const isGiven = (node.inputs[input] ?? "") !== "";
  return {
    label,
    ...(isGiven ? changeInput(graph, node, input, scaled, positions) : giveBias(graph, node, place, scaled)),
  };
}

/**
 * The constant per channel that a value has already, zeros where it has none; undefined where what is added is computed.
 *
 * @returns `[C]`
 */
export function biasValues(graph: Graph, place: BiasPlace, channels: number): Float64Array | undefined {
  const node = graph.producer(place.value);
  if (node === undefined) return undefined;
  const input = biasInput(graph, node, place, channels);
  const factor = isOperator(node, "Gemm") ? floatAttribute(node, "beta", 1) : 1;
  const name = input === undefined ? "" : (node.inputs[input] ?? "");
  const isPlain = input !== undefined || isOperator(node, "MatMul") || (node.inputs[2] ?? "") === "" || factor === 0;
  if (!isPlain || (isOperator(node, "Add") && input === undefined)) return undefined;
  if (name === "") return new Float64Array(channels);
  return float64Values(constantOf(graph, name) as Tensor).map((value) => factor * value);
}

/** What is added before a value is rounded to a grid leaves it on the grid: integer kernels go on to the end of a network. */
function beforeGrid(graph: Graph, value: ValueName): ValueName {
  const dequantize = graph.producer(value);
  if (!isOperator(dequantize, "DequantizeLinear")) return value;
  const quantize = graph.producer(dequantize.inputs[0]);
  const isAlone = onlyConsumer(graph, dequantize.inputs[0]) === dequantize;
  if (!isAlone || !isOperator(quantize, "QuantizeLinear") || !onlyConsumer(graph, quantize.inputs[0])) return value;
  return graph.producer(quantize.inputs[0]) === undefined ? value : quantize.inputs[0];
}

type PatchParts = Omit<GraphPatch, "label">;

/** Which input of a node holds, or could hold, a constant bias with a value per channel. */
function biasInput(graph: Graph, node: Node, place: BiasPlace, channels: number): number | undefined {
  const isFitting = (input: ValueName) => isPerChannel(constantOf(graph, input)?.shape, place.axisFromEnd, channels);
  if (isOperator(node, "Add")) {
    const input = node.inputs.findIndex(isFitting);
    return input >= 0 ? input : undefined;
  }
  const bias = node.inputs[2] ?? "";
  if (isOperator(node, "Conv", "ConvTranspose")) return bias === "" || constantOf(graph, bias) ? 2 : undefined;
  if (isOperator(node, "BatchNormalization")) return constantOf(graph, bias) ? 2 : undefined;
  if (!isOperator(node, "Gemm") || floatAttribute(node, "beta", 1) === 0) return undefined;
  return bias === "" || isFitting(bias) ? 2 : undefined;
}

/** Which input of an Add is a constant that every position could have a value of its own of. */
function addedInput(graph: Graph, node: Node, positions: readonly number[]): number | undefined {
  if (!isOperator(node, "Add")) return undefined;
  const input = node.inputs.findIndex((name) => {
    const shape = graph.constant(name)?.shape;
    return shape !== undefined && broadcastsTo(shape, positions);
  });
  return input >= 0 ? input : undefined;
}

/** A constant as it stands, or as its codes stand for it. */
function constantOf(graph: Graph, value: ValueName): Tensor | undefined {
  return graph.constant(value) ?? quantizedConstant(graph, value)?.tensor;
}

/** Whether a shape has one value per channel, all along the channels' axis. */
function isPerChannel(shape: readonly number[] | undefined, axisFromEnd: number, channels: number): boolean {
  if (shape === undefined || elementCount(shape) !== channels) return false;
  return channels === 1 || shape.at(axisFromEnd) === channels;
}

/** @param shape of the changed constant, where it is not that of the constant itself */
function changeInput(
  graph: Graph,
  node: Node,
  index: number,
  change: Float64Array,
  shape?: readonly number[],
): PatchParts {
  const bias = node.inputs[index];
  const codes = quantizedConstant(graph, bias);
  if (codes !== undefined) return changeCodes(graph, node, index, codes, change);
  const constant = graph.initializers.get(bias) as Tensor;
  const changed = addValues(shape === undefined ? constant : broadcastTo(constant, shape), change);
  const isShared = graph.consumers(bias).length > 1 || graph.isOutput(bias);
  if (!isShared) return { initializers: new Map([[bias, changed]]) };
  const name = createNameSource(graph).fresh(`${bias}_compensated`);
  const inputs = node.inputs.map((input, i) => (i === index ? name : input));
  return { remove: [node], add: [withInputs(node, inputs)], initializers: new Map([[name, changed]]) };
}

function changeCodes(
  graph: Graph,
  node: Node,
  index: number,
  codes: QuantizedConstant,
  change: Float64Array,
): PatchParts {
  const bias = node.inputs[index];
  const isShared = graph.consumers(bias).length > 1 || graph.isOutput(bias);
  const value = isShared ? createNameSource(graph).fresh(`${bias}_compensated`) : bias;
  const { dequantize, initializers } = changeQuantized(graph, codes, change, value);
  if (isShared) {
    const inputs = node.inputs.map((input, i) => (i === index ? value : input));
    return { remove: [node], add: [dequantize, withInputs(node, inputs)], initializers };
  }
  return dequantize === codes.dequantize
    ? { initializers }
    : { remove: [codes.dequantize], add: [dequantize], initializers };
}

function giveBias(graph: Graph, node: Node, place: BiasPlace, change: Float64Array): PatchParts {
  const name = createNameSource(graph).fresh(`${place.value}_bias`);
  const shape = isOperator(node, "Gemm") ? broadcastShape(place, change.length) : [change.length];
  return {
    remove: [node],
    add: [withInputs(node, [node.inputs[0], node.inputs[1], name])],
    initializers: new Map([[name, floatTensor(place.elementType, shape, change)]]),
  };
}

function insertAdd(graph: Graph, node: Node, place: BiasPlace, change: Float64Array): PatchParts {
  const names = createNameSource(graph);
  const raw = names.fresh(`${place.value}_uncompensated`);
  const bias = names.fresh(`${place.value}_bias`);
  const outputs = node.outputs.map((output) => (output === place.value ? raw : output));
  return {
    remove: [node],
    add: [withOutputs(node, outputs), makeNode("Add", [raw, bias], [place.value], {}, names.fresh(`${bias}_added`))],
    initializers: new Map([[bias, floatTensor(place.elementType, broadcastShape(place, change.length), change)]]),
  };
}

/** In which a constant broadcasts over the output. */
function broadcastShape({ axisFromEnd, positions }: BiasPlace, channels: number): readonly number[] {
  return positions ?? [channels, ...new Array<number>(-axisFromEnd - 1).fill(1)];
}

function addValues(tensor: Tensor, change: Float64Array): Tensor {
  return floatTensor(
    tensor.type,
    tensor.shape,
    float32Values(tensor).map((value, i) => value + change[i]),
  );
}

function broadcastsTo(shape: readonly number[], wanted: readonly number[]): boolean {
  const missing = wanted.length - shape.length;
  return missing >= 0 && shape.every((size, axis) => size === 1 || size === wanted[missing + axis]);
}

/** The tensor with its elements repeated, as operators do where shapes differ. */
function broadcastTo(tensor: Tensor, wanted: readonly number[]): Tensor {
  const given = float32Values(tensor);
  const shape = [...new Array<number>(wanted.length - tensor.shape.length).fill(1), ...tensor.shape];
  const values = Float64Array.from({ length: elementCount(wanted) }, (_, element) => {
    let [index, rest, size] = [0, element, 1];
    for (let axis = wanted.length - 1; axis >= 0; axis--) {
      const place = rest % wanted[axis];
      rest = (rest - place) / wanted[axis];
      if (shape[axis] > 1) index += place * size;
      size *= shape[axis];
    }
    return given[index];
  });
  return floatTensor(tensor.type, wanted, values);
}
