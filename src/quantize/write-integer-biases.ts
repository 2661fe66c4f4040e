import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, withInputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { roundHalfEven } from "../math/round.js";
import { float32Tensor, float32Values, int32Tensor, type Tensor } from "../tensor/tensor.js";
import { type BiasUnit, biasUnit, fitsInt32 } from "./bias-unit.js";

/** Puts the biases of integer layers into int32: onnxruntime's integer kernels take no other bias. */
export function writeIntegerBiases(graph: Graph): GraphPatch {
  const writer = new PatchWriter(createNameSource(graph));
  const removed: Node[] = [];
  for (const node of graph.nodes) {
    const unit = isOperator(node, "Conv", "Gemm") ? biasUnit(graph, node) : undefined;
    const [input, weight, bias = ""] = node.inputs;
    if (unit === undefined || !fitsInt32(graph, bias, unit)) continue;
    removed.push(node);
    writer.add(withInputs(node, [input, weight, writeBias(writer, bias, graph.constant(bias) as Tensor, unit)]));
  }
  return writer.finish("biases in int32", { remove: removed });
}

function writeBias(writer: PatchWriter, bias: ValueName, tensor: Tensor, unit: BiasUnit): ValueName {
  const isOne = unit.length === 1;
  const codes = Int32Array.from(float32Values(tensor), (value, i) => roundHalfEven(value / unit[isOne ? 0 : i]));
  const shape = isOne ? [] : [unit.length];
  const inputs = [
    writer.constant(`${bias}_quantized`, int32Tensor([codes.length], codes)),
    writer.constant(`${bias}_scale`, float32Tensor(shape, unit)),
    writer.sharedConstant(`zeros_int32_${shape.join("x")}`, () => int32Tensor(shape, new Int32Array(unit.length))),
  ];
  return writer.node("DequantizeLinear", inputs, `${bias}_dequantized`, isOne ? {} : { axis: 0 });
}
