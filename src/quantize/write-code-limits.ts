import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, onlyConsumer, withInputs, withOutputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { type Limits, limitsOf } from "../operators/limits.js";
import { float32Values, integerValues, uint8Tensor } from "../tensor/tensor.js";

const largestCode = 255;

/**
 * Lets Relu and Clip work on codes: rounding keeps the order of values, so the codes of limited values lie between the
 * codes of the limits, and often those are the ends of the grid anyway. onnxruntime finds the integer kernel of a layer
 * only where QuantizeLinear follows at once; it takes a Relu away by itself where the grid starts at zero.
 */
export function writeCodeLimits(graph: Graph): GraphPatch {
  const writer = new PatchWriter(createNameSource(graph));
  const removed: Node[] = [];
  for (const node of graph.nodes) {
    const limited = isOperator(node, "QuantizeLinear") ? findLimited(graph, node) : undefined;
    if (limited === undefined || (isOperator(limited.activation, "Relu") && limited.low === 0)) continue;
    const { activation, low, high } = limited;
    const [codes] = node.outputs;
    const quantize = withInputs(node, [activation.inputs[0], ...node.inputs.slice(1)]);
    removed.push(activation, node);
    if (low === 0 && high >= topOf(graph, codes)) writer.add(quantize);
    else {
      const unlimited = writer.names.fresh(`${codes}_unlimited`);
      writer.add(withOutputs(quantize, [unlimited]));
      writer.nodeTo(codes, "Clip", [unlimited, ...[low, high].map((code) => writeCode(writer, code))]);
    }
  }
  return writer.finish("limits on codes", { remove: removed });
}

/** A Relu or Clip whose only reader is the QuantizeLinear, and the codes of its limits. */
function findLimited(graph: Graph, quantize: Node): (Limits & { readonly activation: Node }) | undefined {
  const [input, scaleName, zeroPointName] = quantize.inputs;
  const activation = graph.producer(input);
  const limits = activation && limitsOf(graph, activation);
  const scale = graph.constant(scaleName);
  const zeroPoint = graph.constant(zeroPointName);
  if (!limits || onlyConsumer(graph, input) !== quantize || scale?.type !== "float32") return undefined;
  if (onlyConsumer(graph, activation.inputs[0]) !== activation || zeroPoint?.type !== "uint8") return undefined;
  const scales = float32Values(scale);
  if (scales.length !== 1) return undefined;
  const [zero] = integerValues(zeroPoint);
  const codeOf = (value: number) => clamp(roundHalfEven(Math.fround(value / scales[0])) + zero, 0, largestCode);
  return { activation, low: codeOf(limits.low), high: codeOf(limits.high) };
}

/** The highest code that stays: grids below 8 bits are limited already. */
function topOf(graph: Graph, codes: ValueName): number {
  const limit = onlyConsumer(graph, codes);
  const top = isOperator(limit, "Clip") ? graph.constant(limit.inputs[2]) : undefined;
  return top?.type === "uint8" ? integerValues(top)[0] : largestCode;
}

function writeCode(writer: PatchWriter, code: number): ValueName {
  return writer.sharedConstant(`code_${code}`, () => uint8Tensor([], [code]));
}
