import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";
import { float32Values } from "../tensor/tensor.js";

/** What one step of an int32 bias stands for: input scale times weight scale, one or one per channel. */
export type BiasUnit = Float32Array;

/** The unit of a layer's bias; undefined where the layer's inputs are not quantized. */
export function biasUnit(graph: Graph, layer: Node): BiasUnit | undefined {
  const input = scalesOf(graph, layer.inputs[0]);
  const weight = scalesOf(graph, layer.inputs[1]);
  if (input?.length !== 1 || weight === undefined) return undefined;
  return weight.map((scale) => Math.fround(scale * input[0]));
}

/** Whether a constant is a bias that int32 can hold: a row of float32, `[N]` or `[1, N]`, with a unit for each or for all. */
export function fitsInt32(graph: Graph, bias: ValueName, unit: BiasUnit): boolean {
  const tensor = graph.constant(bias);
  if (tensor?.type !== "float32") return false;
  const values = float32Values(tensor);
  // More axes of size 1 would be axes of the sum, but are none of a Gemm or Conv.
  const isVector = tensor.shape.length <= 2 && tensor.shape.at(-1) === values.length;
  const isRow = isVector && (unit.length === 1 || unit.length === values.length);
  return isRow && values.every((value, i) => Math.abs(value / unit[unit.length === 1 ? 0 : i]) < 2 ** 31 - 1);
}

function scalesOf(graph: Graph, value: ValueName): Float32Array | undefined {
  const producer = graph.producer(value);
  if (!isOperator(producer, "DequantizeLinear")) return undefined;
  const scale = graph.constant(producer.inputs[1]);
  return scale?.type === "float32" ? float32Values(scale) : undefined;
}
