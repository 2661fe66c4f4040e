import type { ValueName } from "../graph/graph.js";
import { float32Tensor, type Tensor } from "../tensor/tensor.js";

/** What writes nodes: for a probe, or for a model. */
export interface NodeWriter {
  node(
    opType: string,
    inputs: readonly ValueName[],
    attributes?: Readonly<Record<string, number | readonly number[]>>,
  ): ValueName;
  constant(tensor: Tensor): ValueName;
}

/**
 * The signed logarithm sign(x) · ln(1 + unit·|x|): odd, increasing, straight near zero. A factor in front of it is a matter
 * of the matrix it is multiplied with.
 *
 * @param unit α / s: how far α goes in units of the typical size s of x
 * @see NBC, arXiv:2605.16423; docs/methods/nbc.md
 */
export function writeLogarithm(writer: NodeWriter, value: ValueName, unit: number): ValueName {
  const size = writer.node("Mul", [writer.node("Abs", [value]), scalar(writer, unit)]);
  const logarithm = writer.node("Log", [writer.node("Add", [size, scalar(writer, 1)])]);
  return writer.node("Mul", [writer.node("Sign", [value]), logarithm]);
}

/**
 * The inverse, sign(z) · (exp|z| − 1) / unit, between the limits that each channel keeps to.
 *
 * @param most the largest result of each channel. `[C]`
 * @param shape in which a value per channel broadcasts over `value`
 */
export function writeExponential(
  writer: NodeWriter,
  value: ValueName,
  unit: number,
  most: Float32Array,
  shape: readonly number[],
): ValueName {
  const limit = writer.constant(
    float32Tensor(
      shape,
      most.map((size) => Math.log1p(unit * size)),
    ),
  );
  const size = writer.node("Min", [writer.node("Abs", [value]), limit]);
  const grown = writer.node("Sub", [writer.node("Exp", [size]), scalar(writer, 1)]);
  return writer.node("Mul", [writer.node("Sign", [value]), writer.node("Mul", [grown, scalar(writer, 1 / unit)])]);
}

function scalar(writer: NodeWriter, value: number): ValueName {
  return writer.constant(float32Tensor([], [value]));
}
