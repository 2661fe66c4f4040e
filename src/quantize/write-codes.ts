import type { ValueName } from "../graph/graph.js";
import type { PatchWriter } from "../graph/patch-writer.js";
import { elementCodeOf } from "../tensor/element-code.js";
import { type PackedPlane, packCodes, packedMultiple } from "../tensor/pack.js";
import { int8Tensor, int32Tensor, int64Tensor, uint8Tensor } from "../tensor/tensor.js";
import { centredCodes, codesShape, orderedCodes, type StoredWeight, scaleShape } from "./stored-weight.js";

/**
 * Writes the codes of a weight as an int8 value `[codesShape]`, its zero points taken off: as one byte a code, or packed
 * and unpacked by ordinary operators. These read constants only, so onnxruntime folds them when the session is created
 * and finds an int8 initializer where it looks for quantized patterns.
 *
 * For 8 bits with zero points, which do not fit into int8 once taken off, the codes are left as they are.
 */
export function writeCodes(writer: PatchWriter, stored: StoredWeight): ValueName {
  const { weight, format } = stored;
  if (stored.storage !== "packed" || format.bits === 8) {
    const codes = hasZeroPoints(stored) ? orderedCodes(stored) : centredCodes(stored);
    return writer.constant(`${weight}_quantized`, int8Tensor(codesShape(stored), codes));
  }
  return writeUnpacking(writer, stored);
}

/** Whether the codes that `writeCodes` writes still hold their zero points. */
export function hasZeroPoints(stored: StoredWeight): boolean {
  return !stored.format.symmetric && stored.format.bits === 8;
}

function writeUnpacking(writer: PatchWriter, stored: StoredWeight): ValueName {
  const { weight, format, rows } = stored;
  const half = 2 ** (format.bits - 1);
  const codes = Uint8Array.from(orderedCodes(stored), (code) => code + half);
  const planes = packCodes(codes, format.bits);
  const parts = planes.map((plane) => writePlane(writer, weight, plane));
  let value = parts.reduce((sum, part) => writer.node("Add", [sum, part], `${weight}_planes`));
  if (codes.length % packedMultiple !== 0) {
    const limits = [0, codes.length, 0].map((limit) => writer.constant(`${weight}_limit`, int64Tensor([1], [limit])));
    value = writer.node("Slice", [value, ...limits], `${weight}_sliced`);
  }
  const shape = codesShape(stored);
  const target = writer.constant(`${weight}_shape`, int64Tensor([shape.length], shape));
  value = writer.node("Reshape", [value, target], `${weight}_codes`);
  const isUniform = rows.zeroPoints.every((zeroPoint) => zeroPoint === rows.zeroPoints[0]);
  const offsets = Array.from(isUniform ? rows.zeroPoints.subarray(0, 1) : rows.zeroPoints, (zero) => zero + half);
  const offset = writer.constant(`${weight}_offset`, int32Tensor(isUniform ? [] : scaleShape(stored), offsets));
  value = writer.node("Sub", [value, offset], `${weight}_centred`);
  return writer.node("Cast", [value], `${weight}_quantized`, { to: elementCodeOf("int8") });
}

/** The bits of one plane as int32, in their place within the code. */
function writePlane(writer: PatchWriter, weight: ValueName, plane: PackedPlane): ValueName {
  const bytes = writer.constant(`${weight}_packed`, uint8Tensor([plane.bytes.length], plane.bytes));
  const scalar = (value: number) => writer.constant(`${weight}_bits`, uint8Tensor([], [value]));
  const segments = 8 / plane.width;
  const names = Array.from({ length: segments }, (_, segment) => {
    const shift = segment * plane.width;
    const shifted =
      shift === 0
        ? bytes
        : writer.node("BitShift", [bytes, scalar(shift)], `${weight}_shifted`, { direction: "RIGHT" });
    if (segment === segments - 1) return shifted;
    return writer.node("Mod", [shifted, scalar(2 ** plane.width)], `${weight}_segment`);
  });
  let value = writer.node("Concat", names, `${weight}_plane`, { axis: 0 });
  if (plane.shift > 0) {
    value = writer.node("BitShift", [value, scalar(plane.shift)], `${weight}_high`, { direction: "LEFT" });
  }
  return writer.node("Cast", [value], `${weight}_integers`, { to: elementCodeOf("int32") });
}
