import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, makeNode, onlyConsumer } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { shapeOf, type ValueTypes } from "../graph/value-types.js";
import { float32Tensor, float32Values, type Tensor } from "../tensor/tensor.js";
import { biasUnit, fitsInt32 } from "./bias-unit.js";

/**
 * Writes MatMul and the Add behind it so that onnxruntime does not join them: it makes a Gemm of them before it looks for
 * quantized patterns, and that Gemm stays in float, since its bias is not in int32.
 *
 * A product of two matrices becomes a Gemm here already, with the addend as its bias where int32 can hold it. Behind a
 * product of stacked matrices with one, a Sub of the negated constant takes the place of the Add: the same numbers, and
 * never joined.
 *
 * @param float the network before it was quantized, with the types of its values
 */
export function writeIntegerProducts(graph: Graph, float: Graph, types: ValueTypes): GraphPatch {
  const writer = new PatchWriter(createNameSource(graph));
  const removed: Node[] = [];
  for (const node of graph.nodes) {
    const [product] = node.outputs;
    const add = isQuantizedProduct(graph, node) ? onlyConsumer(graph, product) : undefined;
    if (!isOperator(add, "Add")) continue;
    const addend = add.inputs[add.inputs[0] === product ? 1 : 0];
    // A compensation may have given the product's name to an Add of its own.
    const original = [product, add.outputs[0]].map((value) => float.producer(value));
    const factors = original.find((candidate) => isOperator(candidate, "MatMul"))?.inputs ?? [];
    const [left, right] = factors.map((value) => shapeOf(types, value));
    if (left === undefined || right?.length !== 2) continue;
    if (left.length === 2) {
      const unit = biasUnit(graph, node);
      const isRow = graph.constant(addend)?.shape.at(-1) === right[1];
      const isBias = isRow && unit !== undefined && fitsInt32(graph, addend, unit);
      removed.push(node, ...(isBias ? [add] : []));
      const inputs = isBias ? [...node.inputs, addend] : node.inputs;
      writer.add(makeNode("Gemm", inputs, isBias ? add.outputs : node.outputs, {}, node.name));
    } else if (left.length > 2 && graph.constant(addend)?.type === "float32") {
      removed.push(add);
      writer.nodeTo(add.outputs[0], "Sub", [product, writeNegated(writer, graph, addend)]);
    }
  }
  return writer.finish("products on integers", { remove: removed });
}

function isQuantizedProduct(graph: Graph, node: Node): boolean {
  const isQuantized = (value: ValueName) => isOperator(graph.producer(value), "DequantizeLinear");
  return isOperator(node, "MatMul") && node.inputs.every(isQuantized);
}

function writeNegated(writer: PatchWriter, graph: Graph, constant: ValueName): ValueName {
  return writer.sharedConstant(`${constant}_negated`, () => {
    const tensor = graph.constant(constant) as Tensor;
    return float32Tensor(
      tensor.shape,
      float32Values(tensor).map((value) => -value),
    );
  });
}
