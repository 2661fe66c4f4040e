import type { Graph, Node, ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import {
  intsAttribute,
  isOperator,
  labelOf,
  makeNode,
  onlyConsumer,
  withAttributes,
  withInputs,
  withOutputs,
} from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { resolveAxis } from "../tensor/shape.js";
import { float64Values, floatTensor, type Tensor } from "../tensor/tensor.js";
import type { ChannelAffine } from "./channel-affine.js";
import { findLayer, type LinearLayer, scaleWeight } from "./linear-layer.js";

/** The way from a node that works on channels up to the layer that makes them. */
export interface Trace {
  readonly affine: ChannelAffine;
  readonly layer: LinearLayer;
  /** Changes of the layout in between, the one next to the layer first. */
  readonly transposes: readonly Node[];
  /** The layer's output, and where on it the affine node has its channels. */
  readonly value: ValueName;
  readonly axis: number | undefined;
  readonly rank: number | undefined;
}

/** Follows transposes up to a layer; a reason where there is none, or where somebody else reads on the way. */
export function traceLayer(graph: Graph, affine: ChannelAffine): Trace | string {
  const transposes: Node[] = [];
  let { input: value, axis } = affine;
  let rank: number | undefined;
  let below = affine.node;
  for (;;) {
    if (graph.producer(value) === undefined) return "no layer writes its input";
    if (onlyConsumer(graph, value) !== below) return "the value before it has other readers";
    const node = graph.producer(value) as Node;
    const order = isOperator(node, "Transpose") ? intsAttribute(node, "perm") : undefined;
    if (order === undefined) break;
    rank = order.length;
    if (affine.leastRank > rank) return "it adds axes";
    axis = axis === undefined ? undefined : order[resolveAxis(axis, rank)];
    transposes.unshift(node);
    below = node;
    value = node.inputs[0];
  }
  const layer = findLayer(graph, value);
  if (typeof layer === "string") return layer;
  return { affine, layer, transposes, value, axis, rank: layer.outputRank ?? rank };
}

/** Whether the way can only be judged with the rank of the layer's output at hand. */
export function needsRank({ affine, axis, rank }: Trace): boolean {
  return rank === undefined && (affine.leastRank > 1 || (axis !== undefined && axis >= 0));
}

/** Why the channels of the two are not the same; undefined where they are. */
export function mismatch({ affine, layer, transposes, axis, rank }: Trace): string | undefined {
  if (rank === undefined && (affine.leastRank > 1 || (axis ?? -1) >= 0)) return "the rank of its input is not known";
  if (transposes.length === 0 && affine.leastRank > (rank ?? 1)) return "it adds axes";
  const place = (given: number) => (rank === undefined ? given : resolveAxis(given, rank));
  if (axis !== undefined && place(axis) !== place(layer.outputAxis)) return "its channels are not those of the layer";
  const count = affine.scale.length;
  return count === 1 || count === layer.channels ? undefined : "it has another number of channels than the layer";
}

/**
 * The layer with what the node behind it does to its channels worked into weight and bias, in float64 and rounded once.
 * The node's output name is what the layer writes then; the values in between, which change their meaning, get new names.
 * A weight or bias that others read too is copied for this layer.
 *
 * @returns a reason where the result would not be finite
 */
export function foldIntoLayer(graph: Graph, trace: Trace, names: NameSource): GraphPatch | string {
  const { affine, layer, transposes } = trace;
  const spread = (values: Float64Array) =>
    values.length === layer.channels ? values : new Float64Array(layer.channels).fill(values[0]);
  const [scale, shift] = [spread(affine.scale), spread(affine.shift)];
  const isScaled = scale.some((factor) => factor !== 1);
  const bias = shift.map((value, channel) => value + scale[channel] * (layer.bias?.[channel] ?? 0));
  const hasBias = layer.bias !== undefined || shift.some((value) => value !== 0);
  const weight = isScaled ? scaleWeight(layer, scale) : layer.weight;
  const biasTensor = floatTensor(layer.weight.type, [layer.channels], bias);
  if (!isAllFinite(weight) || !isAllFinite(biasTensor)) return "the folded weights would not be finite";

  const [result] = affine.node.outputs;
  const constants = createChangedConstants(graph, names);
  const weightName = isScaled ? constants.put(layer.weightName, "", weight) : layer.weightName;
  const biasName = hasBias ? constants.put(layer.biasName, `${labelOf(layer.node)}_bias`, biasTensor) : undefined;
  const written = transposes.map((_, i) =>
    i === transposes.length - 1 ? result : names.fresh(`${result}_transposed`),
  );
  const output = transposes.length === 0 ? result : names.fresh(`${result}_untransposed`);
  const moved = transposes.map((node, i) =>
    withOutputs(withInputs(node, [i === 0 ? output : written[i - 1]]), [written[i]]),
  );
  return {
    label: foldLabel(affine.node, layer.node),
    remove: [affine.node, ...transposes, layer.node, ...(layer.biasNode ? [layer.biasNode] : [])],
    add: [...writeLayer(layer, { weightName, biasName, output, isScaled }, names), ...moved],
    initializers: constants.initializers,
  };
}

/** What the report says of a node that went into a layer. */
export function foldLabel(node: Node, layer: Node): string {
  return `${labelOf(node)}: ${node.opType} went into ${layer.opType} ${labelOf(layer)}`;
}

interface Written {
  readonly weightName: ValueName;
  readonly biasName: ValueName | undefined;
  readonly output: ValueName;
  readonly isScaled: boolean;
}

function writeLayer(layer: LinearLayer, written: Written, names: NameSource): readonly Node[] {
  const { node, biasNode } = layer;
  const { weightName, biasName, output, isScaled } = written;
  const inputs = [node.inputs[0], weightName];
  if (!isOperator(node, "MatMul")) {
    const bare = biasName === undefined ? node : withAttributes(node, { beta: undefined });
    return [withOutputs(withInputs(bare, biasName === undefined ? inputs : [...inputs, biasName]), [output])];
  }
  if (biasName === undefined) return [withOutputs(withInputs(node, inputs), [output])];
  // Without a scale the product means what it meant before.
  const product = isScaled ? names.fresh(`${output}_product`) : node.outputs[0];
  const add = biasNode
    ? withOutputs(withInputs(biasNode, [product, biasName]), [output])
    : makeNode("Add", [product, biasName], [output], {}, names.fresh(`${labelOf(node)}_bias`));
  return [withOutputs(withInputs(node, inputs), [product]), add];
}

/** Whether all values are finite: weights that are not would spoil what a runtime still computes. */
export function isAllFinite(tensor: Tensor): boolean {
  return float64Values(tensor).every(Number.isFinite);
}

/** Whether an initializer is read once and so may change under its name. */
export function isReadOnce(graph: Graph, name: ValueName): boolean {
  const readers = graph.consumers(name);
  if (readers.length !== 1 || graph.isOutput(name)) return false;
  return readers[0].inputs.filter((input) => input === name).length === 1;
}

/** Changed constants of a layer. */
export interface ChangedConstants {
  readonly initializers: ReadonlyMap<ValueName, Tensor>;
  /** Keeps a constant under its name where the layer alone reads it, else under a new one, and tells which. */
  put(name: ValueName | undefined, fallback: string, tensor: Tensor): ValueName;
}

export function createChangedConstants(graph: Graph, names: NameSource): ChangedConstants {
  const initializers = new Map<ValueName, Tensor>();
  return {
    initializers,
    put(name, fallback, tensor) {
      const placed = name !== undefined && isReadOnce(graph, name) ? name : names.fresh(name ?? fallback);
      initializers.set(placed, tensor);
      return placed;
    },
  };
}
