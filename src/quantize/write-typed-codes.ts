import type { ValueName } from "../graph/graph.js";
import type { PatchWriter } from "../graph/patch-writer.js";
import { packConsecutive } from "../tensor/pack.js";
import { fromRows, toRows } from "../tensor/rows.js";
import { elementCount } from "../tensor/shape.js";
import { float32Tensor, int8Tensor, type Tensor, tensorFromBytes } from "../tensor/tensor.js";
import { isGrouped, type StoredWeight } from "./stored-weight.js";
import { writeRowsInShape } from "./write-shape.js";

/** ONNX's signed types that hold codes. */
export type CodeType = "int2" | "int4" | "int8";

/**
 * The smallest of ONNX's signed types that holds the codes and that onnxruntime computes rightly with.
 *
 * @param isPlain nobody reads the weight transposed or beside quantized activations
 */
export function codeTypeOf(stored: StoredWeight, isPlain: boolean): CodeType {
  if (stored.format.bits > 4) return "int8";
  // onnxruntime 1.30 computes garbage for two-bit weights whose number of columns is no multiple of 4, and does not load
  // two-bit weights beside quantized activations or behind a Transpose that it folds.
  const isSafe = isPlain && stored.shape.length === 2 && stored.shape[stored.channelAxis] % 4 === 0;
  return stored.format.bits === 2 && isSafe ? "int2" : "int4";
}

/** The codes as a constant; every form of the weight starts from it. */
export function writeTypedCodes(writer: PatchWriter, stored: StoredWeight, type: CodeType): ValueName {
  return writer.sharedConstant(`${stored.weight}_quantized`, () => {
    const { shape, codes } = layoutOf(stored);
    return typedTensor(type, shape, codes);
  });
}

/** Writes a weight as DequantizeLinear of ONNX's own integer types: the value in the weight's shape, in float32. */
export function writeTypedWeight(
  writer: PatchWriter,
  stored: StoredWeight,
  type: CodeType,
  name: ValueName,
): ValueName {
  const { weight, shape } = stored;
  const layout = layoutOf(stored);
  const inputs = [
    writeTypedCodes(writer, stored, type),
    writer.constant(`${weight}_scale`, float32Tensor(layout.parameterShape, layout.scales)),
    writer.constant(`${weight}_zero_point`, typedTensor(type, layout.parameterShape, layout.zeroPoints)),
  ];
  if (layout.shape.length === shape.length) return writer.node("DequantizeLinear", inputs, name, layout.attributes);
  const matrix = writer.node("DequantizeLinear", inputs, `${weight}_matrix`, layout.attributes);
  return writeRowsInShape(writer, stored, matrix, name);
}

/** What a DequantizeLinear is given. */
interface Layout {
  /** The weight's own shape, or that of the matrix with a row per output channel. */
  readonly shape: readonly number[];
  readonly codes: Int8Array;
  readonly parameterShape: readonly number[];
  readonly scales: Float32Array;
  readonly zeroPoints: Int8Array;
  readonly attributes: Readonly<Record<string, number>>;
}

function layoutOf(stored: StoredWeight): Layout {
  const { shape, channelAxis } = stored;
  const { codes, scales, zeroPoints, groupSize } = stored.rows;
  const rowCount = shape[channelAxis];
  if (!isGrouped(stored)) {
    const isWhole = scales.length === 1;
    const parameterShape = isWhole ? [] : [rowCount];
    const attributes: Layout["attributes"] = isWhole ? {} : { axis: channelAxis };
    return { shape, codes: fromRows(codes, shape, channelAxis), parameterShape, scales, zeroPoints, attributes };
  }
  const groups = scales.length / rowCount;
  if (shape.length === 2 && channelAxis === 1) {
    // `[K, N]` with blocks along K is the form that onnxruntime fuses with MatMul.
    return {
      shape,
      codes: fromRows(codes, shape, 1),
      parameterShape: [groups, rowCount],
      scales: toRows(scales, [rowCount, groups], 1),
      zeroPoints: fromRows(zeroPoints, [groups, rowCount], 1),
      attributes: { axis: 0, block_size: groupSize },
    };
  }
  const matrixShape = [rowCount, elementCount(shape) / rowCount];
  const attributes = { axis: 1, block_size: groupSize };
  return { shape: matrixShape, codes, parameterShape: [rowCount, groups], scales, zeroPoints, attributes };
}

function typedTensor(type: CodeType, shape: readonly number[], codes: Int8Array): Tensor {
  if (type === "int8") return int8Tensor(shape, codes);
  return tensorFromBytes(type, shape, packConsecutive(codes, type === "int4" ? 4 : 2));
}
