import type { ValueName } from "../graph/graph.js";
import type { PatchWriter } from "../graph/patch-writer.js";
import { elementCodeOf } from "../tensor/element-code.js";
import { type PackedPlane, packCodes, packedMultiple } from "../tensor/pack.js";
import { int8Tensor, int32Tensor, int64Tensor, uint8Tensor } from "../tensor/tensor.js";
import { centredCodes, codesShape, isOnZero, orderedCodes, type StoredWeight, scaleShape } from "./stored-weight.js";
import { shapeConstant } from "./write-shape.js";
import { type CodeType, writeTypedCodes } from "./write-typed-codes.js";

/**
 * Writes the codes of a weight as an int8 value `[codesShape]`, its zero points taken off: as one byte a code, or small
 * and brought to int8 by ordinary operators. These read constants only, so onnxruntime folds them when the session is
 * created and finds an int8 initializer where it looks for quantized patterns.
 *
 * For 8 bits with zero points, which do not fit into int8 once taken off, the codes are left as they are.
 *
 * @param type what holds the codes where they are stored in ONNX's own types
 */
export function writeCodes(writer: PatchWriter, stored: StoredWeight, type: CodeType): ValueName {
  const { weight, format, storage } = stored;
  if (storage === "onnx") return writeFromTyped(writer, stored, type);
  if (storage === "packed" && format.bits < 8) return writeUnpacking(writer, stored);
  const codes = hasZeroPoints(stored) ? orderedCodes(stored) : centredCodes(stored);
  return writer.constant(`${weight}_quantized`, int8Tensor(codesShape(stored), codes));
}

/** Whether the codes that `writeCodes` writes still hold their zero points. */
export function hasZeroPoints(stored: StoredWeight): boolean {
  return !stored.format.symmetric && stored.format.bits === 8;
}

/** Intermediate values mean nothing to anybody; in models with many small layers, long names would outweigh the codes. */
const step = "unpacked";

function writeFromTyped(writer: PatchWriter, stored: StoredWeight, type: CodeType): ValueName {
  const codes = writeTypedCodes(writer, stored, type);
  const isCentred = isOnZero(stored) || hasZeroPoints(stored);
  if (isCentred && type === "int8") return codes;
  if (isCentred) return writeInt8(writer, stored, codes);
  const widened = writer.node("Cast", [codes], step, { to: elementCodeOf("int32") });
  return writeCentring(writer, stored, widened, 0);
}

function writeUnpacking(writer: PatchWriter, stored: StoredWeight): ValueName {
  const { weight, format } = stored;
  const half = 2 ** (format.bits - 1);
  const codes = new Uint8Array(orderedCodes(stored).map((code) => code + half));
  const planes = packCodes(codes, format.bits).map((plane) => writePlane(writer, weight, plane));
  let value = planes.reduce((sum, plane) => writer.node("Add", [sum, plane], step));
  if (codes.length % packedMultiple !== 0) {
    const limits = [0, codes.length, 0].map((limit) => integer(writer, limit));
    value = writer.node("Slice", [value, ...limits], step);
  }
  value = writer.node("Reshape", [value, shapeConstant(writer, codesShape(stored))], step);
  return writeCentring(writer, stored, value, half);
}

/**
 * Takes the zero points off int32 codes, which then fit into int8.
 *
 * @param shift what the codes stand above those of the weight
 */
function writeCentring(writer: PatchWriter, stored: StoredWeight, codes: ValueName, shift: number): ValueName {
  const centred = writer.node("Sub", [codes, writeOffsets(writer, stored, shift)], step);
  return writeInt8(writer, stored, centred);
}

function writeInt8(writer: PatchWriter, stored: StoredWeight, codes: ValueName): ValueName {
  return writer.node("Cast", [codes], `${stored.weight}_quantized`, { to: elementCodeOf("int8") });
}

function writeOffsets(writer: PatchWriter, stored: StoredWeight, shift: number): ValueName {
  if (isOnZero(stored)) return writer.sharedConstant(`offset_${shift}`, () => int32Tensor([], [shift]));
  // Stored as bytes: with a zero point per channel, four bytes each would be felt.
  const offsets = int8Tensor(
    scaleShape(stored),
    stored.rows.zeroPoints.map((zeroPoint) => zeroPoint + shift),
  );
  const name = writer.constant(`${stored.weight}_offset`, offsets);
  return writer.node("Cast", [name], step, { to: elementCodeOf("int32") });
}

/** The bits of one plane as int32, in their place within the code. */
function writePlane(writer: PatchWriter, weight: ValueName, plane: PackedPlane): ValueName {
  const bytes = writer.constant(`${weight}_packed`, uint8Tensor([plane.bytes.length], plane.bytes));
  const byte = (value: number) => writer.sharedConstant(`byte_${value}`, () => uint8Tensor([], [value]));
  const segments = 8 / plane.width;
  const names = Array.from({ length: segments }, (_, segment) => {
    const shift = segment * plane.width;
    const shifted = shift === 0 ? bytes : writer.node("BitShift", [bytes, byte(shift)], step, { direction: "RIGHT" });
    if (segment === segments - 1) return shifted;
    return writer.node("Mod", [shifted, byte(2 ** plane.width)], step);
  });
  let value = writer.node("Concat", names, step, { axis: 0 });
  if (plane.shift > 0) value = writer.node("BitShift", [value, byte(plane.shift)], step, { direction: "LEFT" });
  return writer.node("Cast", [value], step, { to: elementCodeOf("int32") });
}

function integer(writer: PatchWriter, value: number): ValueName {
  return writer.sharedConstant(`integer_${value}`, () => int64Tensor([1], [value]));
}
