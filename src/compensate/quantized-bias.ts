import type { Graph, Node, ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, withInputs } from "../graph/node.js";
import { extremesOf } from "../math/extremes.js";
import { dequantizedConstant } from "../operators/dequantize.js";
import { bitsOf } from "../tensor/element-type.js";
import {
  float32Values,
  floatTensor,
  int8Tensor,
  int32Tensor,
  integerValues,
  type Tensor,
  uint8Tensor,
} from "../tensor/tensor.js";

/** A constant that stands as codes behind a DequantizeLinear, as other tools write the biases of integer layers. */
export interface QuantizedConstant {
  readonly dequantize: Node;
  /** What the codes stand for. */
  readonly tensor: Tensor;
}

/** The constant behind a value that is dequantized from it; undefined where it is none that can be written again. */
export function quantizedConstant(graph: Graph, value: ValueName): QuantizedConstant | undefined {
  const dequantize = graph.producer(value);
  if (!isOperator(dequantize, "DequantizeLinear")) return undefined;
  const codes = graph.constant(dequantize.inputs[0]);
  const isWritable = codes?.type === "int32" || codes?.type === "int8" || codes?.type === "uint8";
  const tensor = codes && isWritable ? dequantizedConstant(graph, dequantize, codes) : undefined;
  return tensor && { dequantize, tensor };
}

/** What is written for a change of such a constant. */
export interface ChangedConstant {
  readonly dequantize: Node;
  readonly initializers: ReadonlyMap<ValueName, Tensor>;
}

/**
 * Adds to a constant that stands as codes. Codes of 32 bits keep their unit, which integer kernels take from the scales of
 * input and weight; codes of 8 bits get a grid of their own that holds the new values.
 *
 * @param change as many as there are codes
 * @param output what the dequantized value is called
 */
export function changeQuantized(
  graph: Graph,
  { dequantize, tensor }: QuantizedConstant,
  change: Float64Array,
  output: ValueName,
): ChangedConstant {
  const names = createNameSource(graph);
  const inputs = dequantize.inputs.slice(0, 3);
  const isAlone = output === dequantize.outputs[0];
  // What others read too stays what it is.
  const nameFor = (input: ValueName) => {
    return isAlone && graph.consumers(input).length === 1 ? input : names.fresh(`${input}_compensated`);
  };
  const initializers = new Map<ValueName, Tensor>();
  const codes = graph.constant(inputs[0]) as Tensor;
  if (bitsOf(codes.type) === 32) {
    const units = float32Values(graph.constant(inputs[1]) as Tensor);
    const changed = integerValues(codes).map((code, i) =>
      clampTo32(Math.round(code + change[i] / units[units.length === 1 ? 0 : i])),
    );
    inputs[0] = nameFor(inputs[0]);
    initializers.set(inputs[0], int32Tensor(codes.shape, changed));
  } else {
    const values = float32Values(tensor).map((value, i) => value + change[i]);
    const isSigned = codes.type === "int8";
    const grid = gridFor(values, isSigned);
    const { type } = graph.constant(inputs[1]) as Tensor;
    const changed = values.map((value) =>
      clamp(Math.round(value / grid.scale) + grid.zeroPoint, grid.least, grid.most),
    );
    const [codesName, scaleName] = inputs.map(nameFor);
    const zeroName = inputs[2] ? nameFor(inputs[2]) : names.fresh(`${codesName}_zero_point`);
    const write = (shape: readonly number[], numbers: ArrayLike<number>) =>
      isSigned ? int8Tensor(shape, Int8Array.from(numbers)) : uint8Tensor(shape, Uint8Array.from(numbers));
    initializers.set(codesName, write(codes.shape, changed));
    initializers.set(scaleName, floatTensor(type, [], [grid.scale]));
    initializers.set(zeroName, write([], [grid.zeroPoint]));
    inputs.splice(0, 3, codesName, scaleName, zeroName);
  }
  const isSame = isAlone && inputs.every((input, i) => input === dequantize.inputs[i]);
  const node = isSame
    ? dequantize
    : { ...withInputs(dequantize, inputs), outputs: [output], ...(isAlone ? {} : { name: "" }) };
  return { dequantize: node, initializers };
}

/** The finest grid of 8 bits that holds all values: symmetric where codes are signed, as integer kernels want it. */
function gridFor(values: Float32Array, isSigned: boolean) {
  const extremes = extremesOf(values);
  const low = Math.min(0, extremes.low);
  const high = Math.max(0, extremes.high);
  if (isSigned) {
    const scale = Math.fround(Math.max(-low, high) / 127) || 1;
    return { scale, zeroPoint: 0, least: -127, most: 127 };
  }
  const scale = Math.fround((high - low) / 255) || 1;
  return { scale, zeroPoint: clamp(Math.round(-low / scale), 0, 255), least: 0, most: 255 };
}

function clampTo32(value: number): number {
  return clamp(value, -(2 ** 31), 2 ** 31 - 1);
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
