import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, makeNode, onlyConsumer, withInputs, withOutputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import type { FloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { float32Values, floatTensor, type Tensor } from "../tensor/tensor.js";

/** Why a constant cannot be added to what a node computes; undefined where it can. */
export function biasObstacle(node: Node): string | undefined {
  if (isOperator(node, "Gather")) return "a table has no bias";
  if (isOperator(node, "LSTM", "GRU", "RNN")) return `the bias of ${node.opType} acts inside the recurrence`;
  return undefined;
}

/** A place for a constant per output channel. */
export interface BiasPlace {
  readonly value: ValueName;
  /** The channels' axis, counted from the end (negative). */
  readonly axisFromEnd: number;
  readonly elementType: FloatType;
}

/** A layer's output with its bias: behind the Add of a constant that exporters put after MatMul, else the output itself. */
export function biasedOutput(graph: Graph, output: ValueName, axisFromEnd: number, channels: number): ValueName {
  const add = onlyConsumer(graph, output);
  return addedConstant(graph, add, axisFromEnd, channels) === undefined ? output : (add as Node).outputs[0];
}

/**
 * Adds a constant per output channel to a value: to the bias of the node that computes it, or as a new bias or Add.
 *
 * @param change `[C]`
 */
export function addToBias(graph: Graph, place: BiasPlace, change: Float64Array): GraphPatch {
  const node = graph.producer(place.value);
  if (!node) throw new Error(`${place.value} is computed by no node`);
  const label = `compensate the bias of ${place.value}`;
  const added = addedConstant(graph, node, place.axisFromEnd, change.length);
  if (added !== undefined) return { label, ...changeInput(graph, node, node.inputs.indexOf(added), change) };
  if (isOperator(node, "Conv", "ConvTranspose", "Gemm")) {
    const bias = node.inputs[2] ?? "";
    if (bias === "") return { label, ...giveBias(graph, node, place, change) };
    if (elementCount(graph.constant(bias)?.shape ?? [0]) === change.length) {
      return { label, ...changeInput(graph, node, 2, change) };
    }
  }
  return { label, ...insertAdd(graph, node, place, change) };
}

type PatchParts = Omit<GraphPatch, "label">;

/** The constant operand of an Add where it has one value per channel, all along the channels' axis. */
function addedConstant(
  graph: Graph,
  node: Node | undefined,
  axisFromEnd: number,
  channels: number,
): ValueName | undefined {
  if (!isOperator(node, "Add")) return undefined;
  return node.inputs.find((input) => {
    const shape = graph.constant(input)?.shape;
    return (
      shape !== undefined && elementCount(shape) === channels && (channels === 1 || shape.at(axisFromEnd) === channels)
    );
  });
}

function changeInput(graph: Graph, node: Node, index: number, change: Float64Array): PatchParts {
  const bias = node.inputs[index];
  const changed = addValues(graph.initializers.get(bias) as Tensor, change);
  if (graph.consumers(bias).length === 1) return { initializers: new Map([[bias, changed]]) };
  const name = createNameSource(graph).fresh(`${bias}_compensated`);
  const inputs = node.inputs.map((input, i) => (i === index ? name : input));
  return { remove: [node], add: [withInputs(node, inputs)], initializers: new Map([[name, changed]]) };
}

function giveBias(graph: Graph, node: Node, place: BiasPlace, change: Float64Array): PatchParts {
  const name = createNameSource(graph).fresh(`${place.value}_bias`);
  return {
    remove: [node],
    add: [withInputs(node, [node.inputs[0], node.inputs[1], name])],
    initializers: new Map([[name, floatTensor(place.elementType, [change.length], change)]]),
  };
}

function insertAdd(graph: Graph, node: Node, place: BiasPlace, change: Float64Array): PatchParts {
  const names = createNameSource(graph);
  const raw = names.fresh(`${place.value}_uncompensated`);
  const bias = names.fresh(`${place.value}_bias`);
  const shape = [change.length, ...new Array<number>(-place.axisFromEnd - 1).fill(1)];
  const outputs = node.outputs.map((output) => (output === place.value ? raw : output));
  return {
    remove: [node],
    add: [withOutputs(node, outputs), makeNode("Add", [raw, bias], [place.value], {}, names.fresh(`${bias}_added`))],
    initializers: new Map([[bias, floatTensor(place.elementType, shape, change)]]),
  };
}

function addValues(tensor: Tensor, change: Float64Array): Tensor {
  return floatTensor(
    tensor.type,
    tensor.shape,
    float32Values(tensor).map((value, i) => value + change[i]),
  );
}
