import type { Graph, Node, ValueName } from "../graph/graph.js";
import { floatAttribute, isOperator, onlyConsumer, withAttributes, withInputs, withOutputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import type { PatchWriter } from "../graph/patch-writer.js";
import type { Layer } from "../operators/layer.js";
import { isFloatType } from "../tensor/element-type.js";
import { float64Values, floatTensor, type Tensor } from "../tensor/tensor.js";

/** What becomes of the channels of a value: x' = (x - shift) / scale. `[C]` each */
export interface ChannelChange {
  readonly shifts: Float64Array;
  readonly scales: Float64Array;
}

/** Why a layer cannot undo a change of the channels that it reads; undefined where it can. */
export function inputObstacle(graph: Graph, { node, inputForm, transpose }: Layer): string | undefined {
  if (inputForm?.kind !== "vectors" || inputForm.axis !== -1) return "the channels are not what its weight sums over";
  const isShared = transpose !== undefined && onlyConsumer(graph, transpose.outputs[0]) !== node;
  if (isShared) return "another node reads the transposed weight";
  const bias = isOperator(node, "Gemm") ? (node.inputs[2] ?? "") : "";
  return bias === "" || isFloatConstant(graph, bias) ? undefined : "its bias is not constant";
}

/**
 * Makes layers compute from a changed input what they computed from the input before: x · W + b = x' · (scale W) + (b + shift W),
 * in float64 and rounded once. Weights and biases that others read too are copied.
 *
 * @param layers all of them read the changed value, and none has an `inputObstacle`
 */
export function rewriteInputs(
  graph: Graph,
  writer: PatchWriter,
  layers: readonly Layer[],
  change: ChannelChange,
): NonNullable<GraphPatch["remove"]> {
  const copies = new Map<ValueName, ValueName>();
  const readers = new Set(layers.map(({ node, transpose }) => (transpose ?? node).outputs[0]));
  const put = (name: ValueName, tensor: Tensor): ValueName => {
    const isOwn = !graph.isOutput(name) && graph.consumers(name).every((node) => readers.has(node.outputs[0]));
    const placed = copies.get(name) ?? (isOwn ? name : writer.names.fresh(name));
    copies.set(name, placed);
    writer.initializers.set(placed, tensor);
    return placed;
  };
  return layers.flatMap((layer) => {
    const node = graph.producer(layer.node.outputs[0]) as Node;
    const weight = graph.constant(layer.weight) as Tensor;
    const scaled = put(layer.weight, scaleRows(weight, layer.channelAxis, change.scales));
    const transpose = layer.transpose && (graph.producer(layer.transpose.outputs[0]) as Node);
    if (transpose) writer.add(withInputs(transpose, [scaled]));
    const inputs = node.inputs.map((input, i) => (i === layer.weightInput && !transpose ? scaled : input));
    const summand = productWith(weight, layer.channelAxis, change.shifts);
    const removed = summand.every((value) => value === 0)
      ? addNode(writer, withInputs(node, inputs))
      : isOperator(node, "Gemm")
        ? addToGemm(graph, writer, withInputs(node, inputs), summand, weight)
        : addToProduct(graph, writer, withInputs(node, inputs), summand, weight);
    return [node, ...removed, ...(transpose ? [transpose] : [])];
  });
}

function addNode(writer: PatchWriter, node: Node): readonly Node[] {
  writer.add(node);
  return [];
}

/** alpha · x · W + beta · C */
function addToGemm(
  graph: Graph,
  writer: PatchWriter,
  node: Node,
  summand: Float64Array,
  { type }: Tensor,
): readonly Node[] {
  const [input, weight, bias = ""] = node.inputs;
  const alpha = floatAttribute(node, "alpha", 1);
  const beta = bias === "" ? 1 : floatAttribute(node, "beta", 1);
  const scaled = summand.map((value) => (value * alpha) / beta);
  const name = bias === "" ? `${node.outputs[0]}_bias` : bias;
  const tensor =
    bias === "" ? floatTensor(type, [scaled.length], scaled) : plus(graph.constant(bias) as Tensor, scaled);
  const changed = withInputs(node, [input, weight, putConstant(graph, writer, name, node, tensor)]);
  writer.add(bias === "" ? withAttributes(changed, { beta: undefined }) : changed);
  return [];
}

/** The Add behind the product takes the summand where it adds a constant; otherwise there is another one. */
function addToProduct(
  graph: Graph,
  writer: PatchWriter,
  node: Node,
  summand: Float64Array,
  { type }: Tensor,
): readonly Node[] {
  const [product] = node.outputs;
  const add = onlyConsumer(graph, product);
  const side = isOperator(add, "Add") ? [0, 1].find((input) => isFloatConstant(graph, add.inputs[input])) : undefined;
  if (add === undefined || side === undefined) {
    const raw = writer.names.fresh(`${product}_unshifted`);
    writer.add(withOutputs(node, [raw]));
    const bias = writer.constant(`${product}_bias`, floatTensor(type, [summand.length], summand));
    writer.nodeTo(product, "Add", [raw, bias]);
    return [];
  }
  writer.add(node);
  const bias = add.inputs[side];
  const changed = putConstant(graph, writer, bias, add, plus(graph.constant(bias) as Tensor, summand));
  writer.add(
    withInputs(
      add,
      add.inputs.map((input, i) => (i === side ? changed : input)),
    ),
  );
  return [add];
}

/** Under its name where the node alone reads it. */
function putConstant(graph: Graph, writer: PatchWriter, name: ValueName, reader: Node, tensor: Tensor): ValueName {
  const isOwn = graph.initializers.has(name) && !graph.isOutput(name) && isReadBy(graph, name, reader);
  const placed = isOwn ? name : writer.names.fresh(name);
  writer.initializers.set(placed, tensor);
  return placed;
}

function isReadBy(graph: Graph, name: ValueName, reader: Node): boolean {
  return graph.consumers(name).every((node) => node.outputs[0] === reader.outputs[0]);
}

/** @param summand along the last axis, which a constant of one value is spread over */
function plus(tensor: Tensor, summand: Float64Array): Tensor {
  const values = float64Values(tensor);
  const last = tensor.shape.at(-1) ?? 1;
  const size = summand.length;
  const rows = values.length / last;
  const sums = Float64Array.from({ length: rows * size }, (_, i) => {
    const [row, column] = [Math.floor(i / size), i % size];
    return values[row * last + (last === 1 ? 0 : column)] + summand[column];
  });
  return floatTensor(tensor.type, [...tensor.shape.slice(0, -1), size], sums);
}

/** The weight `[K, N]` or `[N, K]` with each input channel times its scale. */
function scaleRows(weight: Tensor, channelAxis: number, scales: Float64Array): Tensor {
  const columns = weight.shape[1];
  const values = float64Values(weight).map(
    (value, i) => value * scales[channelAxis === 0 ? i % columns : Math.floor(i / columns)],
  );
  return floatTensor(weight.type, weight.shape, values);
}

/** shift · W `[N]` */
function productWith(weight: Tensor, channelAxis: number, shifts: Float64Array): Float64Array {
  const columns = weight.shape[1];
  const result = new Float64Array(weight.shape[channelAxis]);
  for (const [i, value] of float64Values(weight).entries()) {
    const [row, column] = [Math.floor(i / columns), i % columns];
    result[channelAxis === 0 ? row : column] += value * shifts[channelAxis === 0 ? column : row];
  }
  return result;
}

function isFloatConstant(graph: Graph, value: ValueName): boolean {
  const tensor = graph.constant(value);
  return tensor !== undefined && isFloatType(tensor.type);
}
