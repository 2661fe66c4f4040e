import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, withInputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { elementCount } from "../tensor/shape.js";
import { float32Tensor, float32Values, int32Tensor } from "../tensor/tensor.js";

/**
 * Puts the biases of integer layers into int32, in units of input scale times weight scale: onnxruntime's integer kernels
 * take no other bias. The last thing before a model is written, since compensations change biases.
 */
export function writeIntegerBiases(graph: Graph): GraphPatch {
  const writer = new PatchWriter(createNameSource(graph));
  const removed: Node[] = [];
  for (const node of graph.nodes) {
    if (!isOperator(node, "Conv", "Gemm")) continue;
    const unit = biasUnit(graph, node);
    const bias = graph.constant(node.inputs[2] ?? "");
    if (unit === undefined || bias?.type !== "float32") continue;
    const values = float32Values(bias);
    if (values.length !== elementCount(bias.shape) || (unit.length !== 1 && unit.length !== values.length)) continue;
    removed.push(node);
    writer.add(withInputs(node, [node.inputs[0], node.inputs[1], writeBias(writer, node.inputs[2], values, unit)]));
  }
  return writer.finish("biases in int32", { remove: removed });
}

/** Input scale times weight scale, one or one per channel; undefined where the layer's inputs are not quantized. */
function biasUnit(graph: Graph, node: Node): Float32Array | undefined {
  const input = scalesOf(graph, node.inputs[0]);
  const weight = scalesOf(graph, node.inputs[1]);
  if (input?.length !== 1 || weight === undefined) return undefined;
  return weight.map((scale) => Math.fround(scale * input[0]));
}

function scalesOf(graph: Graph, value: ValueName): Float32Array | undefined {
  const producer = graph.producer(value);
  if (!isOperator(producer, "DequantizeLinear")) return undefined;
  const scale = graph.constant(producer.inputs[1]);
  return scale?.type === "float32" ? float32Values(scale) : undefined;
}

function writeBias(writer: PatchWriter, bias: ValueName, values: Float32Array, unit: Float32Array): ValueName {
  const largest = 2 ** 31 - 1;
  const codes = Int32Array.from(values, (value, i) =>
    clamp(roundHalfEven(value / unit[unit.length === 1 ? 0 : i]), -largest, largest),
  );
  const shape = unit.length === 1 ? [] : [unit.length];
  const inputs = [
    writer.constant(`${bias}_quantized`, int32Tensor([codes.length], codes)),
    writer.constant(`${bias}_scale`, float32Tensor(shape, unit)),
    writer.sharedConstant(`zeros_int32_${shape.join("x")}`, () => int32Tensor(shape, new Int32Array(unit.length))),
  ];
  return writer.node("DequantizeLinear", inputs, `${bias}_dequantized`, unit.length === 1 ? {} : { axis: 0 });
}
