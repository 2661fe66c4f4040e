import type { ValueName } from "../graph/graph.js";
import type { PatchWriter } from "../graph/patch-writer.js";
import { packConsecutive } from "../tensor/pack.js";
import { fromRows } from "../tensor/rows.js";
import { elementCount } from "../tensor/shape.js";
import { float32Tensor, int8Tensor, type Tensor, tensorFromBytes } from "../tensor/tensor.js";
import { isGrouped, type StoredWeight } from "./stored-weight.js";
import { writeRowsInShape } from "./write-shape.js";

/** ONNX's signed types that hold codes. */
export type CodeType = "int2" | "int4" | "int8";

/** The smallest of ONNX's signed types that holds the codes and that onnxruntime computes rightly with. */
export function codeTypeOf(stored: StoredWeight, isInteger: boolean): CodeType {
  if (stored.format.bits > 4) return "int8";
  // onnxruntime 1.30 computes garbage for two-bit weights whose number of columns is no multiple of 4, and loads no
  // two-bit weights beside quantized activations.
  const isSafe = !isInteger && stored.shape.length === 2 && stored.shape[stored.channelAxis] % 4 === 0;
  return stored.format.bits === 2 && isSafe ? "int2" : "int4";
}

/** The version of the standard's operators that DequantizeLinear of a weight needs. */
export function opsetForTypedCodes(type: CodeType, stored: StoredWeight): number {
  if (type === "int2") return 25;
  return type === "int4" || isGrouped(stored) ? 21 : 13;
}

/** Writes a weight as DequantizeLinear of ONNX's own integer types: the value in the weight's shape, in float32. */
export function writeTypedWeight(
  writer: PatchWriter,
  stored: StoredWeight,
  type: CodeType,
  name: ValueName,
): ValueName {
  const { weight, shape, channelAxis, rows } = stored;
  const rowCount = shape[channelAxis];
  const groups = rows.scales.length / rowCount;
  if (!isGrouped(stored)) {
    const perTensor = rows.scales.length === 1;
    const inputs = writeInputs(
      writer,
      stored,
      type,
      shape,
      fromRows(rows.codes, shape, channelAxis),
      perTensor ? [] : [rowCount],
    );
    return writer.node("DequantizeLinear", inputs, name, perTensor ? {} : { axis: channelAxis });
  }
  if (shape.length === 2 && channelAxis === 1) {
    // `[K, N]` with blocks along K: the form that onnxruntime fuses with MatMul.
    const codes = fromRows(rows.codes, shape, 1);
    const inputs = writeInputs(writer, stored, type, shape, codes, [groups, rowCount]);
    return writer.node("DequantizeLinear", inputs, name, { axis: 0, block_size: rows.groupSize });
  }
  const columns = elementCount(shape) / rowCount;
  const inputs = writeInputs(writer, stored, type, [rowCount, columns], rows.codes, [rowCount, groups]);
  const block = { axis: 1, block_size: rows.groupSize };
  if (shape.length === 2) return writer.node("DequantizeLinear", inputs, name, block);
  const matrix = writer.node("DequantizeLinear", inputs, `${weight}_matrix`, block);
  return writeRowsInShape(writer, stored, matrix, name);
}

/** Codes, scales and zero points; scales of groups lie group by group where their shape has the groups first. */
function writeInputs(
  writer: PatchWriter,
  stored: StoredWeight,
  type: CodeType,
  shape: readonly number[],
  codes: Int8Array,
  parameterShape: readonly number[],
): readonly ValueName[] {
  const { weight, rows, channelAxis } = stored;
  const isTransposed = isGrouped(stored) && shape.length === 2 && channelAxis === 1 && shape === stored.shape;
  const [groups, rowCount] = parameterShape;
  const order = (i: number) => (isTransposed ? (i % rowCount) * groups + Math.floor(i / rowCount) : i);
  const scales = rows.scales.map((_, i) => rows.scales[order(i)]);
  const zeroPoints = rows.zeroPoints.map((_, i) => rows.zeroPoints[order(i)]);
  return [
    writer.constant(`${weight}_quantized`, typedTensor(type, shape, codes)),
    writer.constant(`${weight}_scale`, float32Tensor(parameterShape, scales)),
    writer.constant(`${weight}_zero_point`, typedTensor(type, parameterShape, zeroPoints)),
  ];
}

function typedTensor(type: CodeType, shape: readonly number[], codes: Int8Array): Tensor {
  if (type === "int8") return int8Tensor(shape, codes);
  return tensorFromBytes(type, shape, packConsecutive(codes, type === "int4" ? 4 : 2));
}
