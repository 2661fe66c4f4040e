import { WireType } from "@bufbuild/protobuf/wire";
import { RecoupError } from "../errors.js";
import type { ElementType } from "../tensor/element-type.js";
import { countVarints, forEachVarint, malformed, type WireRecord } from "./wire.js";

/** Field numbers of `TensorProto` for elements that are not stored as raw bytes. */
export const typedFields = {
  floatData: 4,
  int32Data: 5,
  stringData: 6,
  int64Data: 7,
  doubleData: 10,
  uint64Data: 11,
} as const;

/** Bytes of the elements in a typed field, without taking them apart. */
export function storedBytes(records: readonly WireRecord[], type: ElementType, place: string): number {
  const [wanted, entryBytes] = typedField(type);
  const stored = records.filter((record) => record.field === wanted);
  if (wanted === typedFields.floatData || wanted === typedFields.doubleData) return joinedBytes(stored, wanted, place);
  return entryBytes * stored.reduce((sum, { body }) => sum + countVarints(body), 0);
}

/** The typed field of an element type, and how many bytes of elements one entry of it holds. */
function typedField(type: ElementType): readonly [field: number, entryBytes: number] {
  switch (type) {
    case "float32":
    case "complex64":
      return [typedFields.floatData, 4];
    case "float64":
    case "complex128":
      return [typedFields.doubleData, 8];
    case "int64":
      return [typedFields.int64Data, 8];
    case "uint64":
      return [typedFields.uint64Data, 8];
    case "uint32":
      return [typedFields.uint64Data, 4];
    case "int32":
      return [typedFields.int32Data, 4];
    case "int16":
    case "uint16":
    case "float16":
    case "bfloat16":
      return [typedFields.int32Data, 2];
    default:
      // 8-bit types, and packed pairs or quadruples of the smaller ones.
      return [typedFields.int32Data, 1];
  }
}

/** Elements that stand in one of the typed fields, as the bytes that `raw_data` would hold. */
export function decodeTyped(records: readonly WireRecord[], type: ElementType, place: string): Uint8Array {
  if (type === "string") throw new RecoupError("onnx/tensor", "strings have no bytes", { field: place });
  const [wanted, entryBytes] = typedField(type);
  if (wanted === typedFields.floatData || wanted === typedFields.doubleData) return joinFixed(records, wanted, place);
  const bytes = new Uint8Array(storedBytes(records, type, place));
  const view = new DataView(bytes.buffer);
  forEachVarint(records, wanted, place, (i, low, high) => {
    const at = i * entryBytes;
    if (entryBytes === 1) view.setUint8(at, low);
    else if (entryBytes === 2) view.setUint16(at, low, true);
    else view.setUint32(at, low, true);
    if (entryBytes === 8) view.setUint32(at + 4, high, true);
  });
  return bytes;
}

/** Bytes of numbers of a fixed size, packed or not. */
function joinedBytes(parts: readonly WireRecord[], wanted: number, place: string): number {
  const [size, single] = wanted === typedFields.floatData ? [4, WireType.Bit32] : [8, WireType.Bit64];
  for (const part of parts) {
    if (part.wireType !== single && part.wireType !== WireType.LengthDelimited) {
      throw malformed(place, `has data of wire type ${part.wireType}`);
    }
    if (part.body.byteLength % size !== 0) throw malformed(place, "has a broken number");
  }
  return parts.reduce((sum, part) => sum + part.body.byteLength, 0);
}

function joinFixed(records: readonly WireRecord[], wanted: number, place: string): Uint8Array {
  const parts = records.filter((record) => record.field === wanted);
  const joined = new Uint8Array(joinedBytes(parts, wanted, place));
  let position = 0;
  for (const part of parts) {
    joined.set(part.body, position);
    position += part.body.byteLength;
  }
  return joined;
}
