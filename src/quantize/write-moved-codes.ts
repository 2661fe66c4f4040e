import type { Graph, Node } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, onlyConsumer } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { padsWithZero } from "../operators/selecting.js";

/**
 * Lets operators that only move values move codes, where onnxruntime would not do so by itself: between a
 * DequantizeLinear and a QuantizeLinear of the same grid.
 */
export function writeMovedCodes(graph: Graph): GraphPatch {
  const writer = new PatchWriter(createNameSource(graph));
  const removed = new Set<Node>();
  const sources = new Set<Node>();
  for (const node of graph.nodes) {
    const isMove = isOperator(node, "SpaceToDepth") || (isOperator(node, "Pad") && padsWithZero(node, graph));
    const dequantize = isMove ? graph.producer(node.inputs[0]) : undefined;
    const quantize = isMove ? onlyConsumer(graph, node.outputs[0]) : undefined;
    if (!isOperator(dequantize, "DequantizeLinear") || !isOperator(quantize, "QuantizeLinear")) continue;
    const [codes, scale, zeroPoint] = dequantize.inputs;
    if (quantize.inputs[1] !== scale || quantize.inputs[2] !== zeroPoint) continue;
    const [, pads, , axes] = node.inputs;
    const inputs = isOperator(node, "Pad") ? [codes, pads, zeroPoint, ...(axes === undefined ? [] : [axes])] : [codes];
    writer.nodeTo(quantize.outputs[0], node.opType, inputs, node.attributes);
    removed.add(node).add(quantize);
    sources.add(dequantize);
  }
  for (const source of sources) {
    const isUnread = graph.consumers(source.outputs[0]).every((reader) => removed.has(reader));
    if (isUnread && !graph.isOutput(source.outputs[0])) removed.add(source);
  }
  return writer.finish("moves of codes", { remove: [...removed] });
}
