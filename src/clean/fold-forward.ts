import type { Graph, Node } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import {
  floatAttribute,
  intAttribute,
  intsAttribute,
  isOperator,
  labelOf,
  onlyConsumer,
  stringAttribute,
  withAttributes,
  withInputs,
} from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { elementCount } from "../tensor/shape.js";
import { float64Values, floatTensor, type Tensor } from "../tensor/tensor.js";
import type { ChannelAffine } from "./channel-affine.js";
import { createChangedConstants, foldLabel, isAllFinite } from "./fold-into-layer.js";
import { findLayer, type LinearLayer } from "./linear-layer.js";

/**
 * The layer *behind* a normalization with the normalization worked in: each slice of the weight that reads a channel takes
 * the channel's scale, and what the shifts add up to goes into the bias. A Conv that pads puts zeros after the
 * normalization, not before it, so there it only works without a shift.
 *
 * @returns a reason where it is not exact
 */
export function foldForward(graph: Graph, affine: ChannelAffine, names: NameSource): GraphPatch | string {
  const [value] = affine.node.outputs;
  const reader = onlyConsumer(graph, value);
  if (reader?.inputs[0] !== value || !isOperator(reader, "Conv", "Gemm")) return "no single layer reads its output";
  const layer = findLayer(graph, reader.outputs[0]);
  if (typeof layer === "string") return layer;
  if (isOperator(reader, "Gemm") && intAttribute(reader, "transA", 0) !== 0) return "the layer behind it transposes it";
  const hasShift = affine.shift.some((shift) => shift !== 0);
  if (isOperator(reader, "Conv") && hasShift && pads(reader)) return "the Conv behind it pads what it normalizes";
  const read = readChannels(layer, affine);
  if (read === undefined) return "it has another number of channels than the layer behind it reads";
  const biasTensor = floatTensor(layer.weight.type, [layer.channels], read.bias);
  if (!isAllFinite(read.weight) || !isAllFinite(biasTensor)) return "the folded weights would not be finite";
  const constants = createChangedConstants(graph, names);
  const inputs = [affine.input, constants.put(layer.weightName, "", read.weight)];
  if (hasShift || layer.bias) inputs.push(constants.put(layer.biasName, `${labelOf(reader)}_bias`, biasTensor));
  const bare = inputs.length === 3 ? withAttributes(reader, { beta: undefined }) : reader;
  return {
    label: foldLabel(affine.node, reader),
    remove: [affine.node, reader],
    add: [withInputs(bare, inputs)],
    initializers: constants.initializers,
  };
}

function pads(node: Node): boolean {
  const rule = stringAttribute(node, "auto_pad", "NOTSET");
  if (rule !== "NOTSET") return rule !== "VALID";
  return intsAttribute(node, "pads")?.some((width) => width !== 0) ?? false;
}

interface ReadChannels {
  readonly weight: Tensor;
  readonly bias: Float64Array;
}

/** Weight `[out, in]` or `[in, out]` of a Gemm, `[out, in / group, …kernel]` of a Conv. */
function readChannels(layer: LinearLayer, { scale, shift }: ChannelAffine): ReadChannels | undefined {
  const { node, weight, channels } = layer;
  const isGemm = isOperator(node, "Gemm");
  const groups = isGemm ? 1 : intAttribute(node, "group", 1);
  const inputs = isGemm ? weight.shape[1 - layer.weightAxis] : weight.shape[1];
  const kernel = isGemm ? 1 : elementCount(weight.shape.slice(2));
  if (scale.length !== inputs * groups) return undefined;
  const factor = isGemm ? floatAttribute(node, "alpha", 1) : 1;
  const values = Float64Array.from(float64Values(weight));
  const bias = Float64Array.from(layer.bias ?? new Float64Array(channels));
  const [outputStep, inputStep] = layer.weightAxis === 0 ? [inputs * kernel, kernel] : [1, channels];
  for (let output = 0; output < channels; output++) {
    const firstInput = Math.floor((output * groups) / channels) * inputs;
    for (let input = 0; input < inputs; input++) {
      const start = output * outputStep + input * inputStep;
      for (let i = start; i < start + kernel; i++) {
        bias[output] += factor * values[i] * shift[firstInput + input];
        values[i] *= scale[firstInput + input];
      }
    }
  }
  return { weight: floatTensor(weight.type, weight.shape, values), bias };
}
