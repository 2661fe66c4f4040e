import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, onlyConsumer, withInputs, withOutputs } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { float32Values, integerValues, uint8Tensor } from "../tensor/tensor.js";
import type { Range } from "./format.js";

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
function findLimited(graph: Graph, quantize: Node): (Range & { readonly activation: Node }) | undefined {
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

function limitsOf(graph: Graph, activation: Node): Range | undefined {
  if (isOperator(activation, "Relu")) return { low: 0, high: Number.POSITIVE_INFINITY };
  if (!isOperator(activation, "Clip")) return undefined;
  const low = limitOf(graph, activation.inputs[1], Number.NEGATIVE_INFINITY);
  const high = limitOf(graph, activation.inputs[2], Number.POSITIVE_INFINITY);
  return low === undefined || high === undefined ? undefined : { low, high };
}

function limitOf(graph: Graph, input: ValueName | undefined, open: number): number | undefined {
  if (input === undefined || input === "") return open;
  const tensor = graph.constant(input);
  return tensor?.type === "float32" ? float32Values(tensor)[0] : undefined;
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
