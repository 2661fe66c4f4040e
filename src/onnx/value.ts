import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { Value, ValueType } from "../graph/graph.js";
import { elementCodeOf, elementTypeOf } from "../tensor/element-code.js";
import {
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "./gen/onnx_pb.js";
import type { ReadBudget } from "./limits.js";
import { decodeText, encodeText } from "./text.js";
import { decodeMessage, recordsIn } from "./wire.js";

interface ValueOrigin {
  value?: Value;
  readonly message: Uint8Array;
}

/** Reads a `ValueInfoProto`: name, type and shape of a value. */
export function readValue(message: Uint8Array, path: string, budget?: ReadBudget): Value {
  const proto = decodeMessage(ValueInfoProtoSchema, message, path, budget);
  const origin: ValueOrigin = { message };
  const value: Value = { name: decodeText(proto.name), type: readType(proto), origin };
  origin.value = value;
  return value;
}

export function encodeValue(value: Value): Uint8Array {
  const origin = value.origin as ValueOrigin | undefined;
  if (origin?.value === value) return origin.message;
  if (origin?.value?.type === value.type) return renameValue(origin.message, value.name);
  const proto = create(ValueInfoProtoSchema, { name: encodeText(value.name) });
  if (value.type.kind === "tensor") {
    const tensorType = create(TypeProto_TensorSchema, { elemType: elementCodeOf(value.type.elementType) });
    if (value.type.shape) {
      const dim = value.type.shape.map((size) => create(TensorShapeProto_DimensionSchema, { value: dimension(size) }));
      tensorType.shape = create(TensorShapeProtoSchema, { dim });
    }
    proto.type = create(TypeProtoSchema, { tensorType });
  }
  return toBinary(ValueInfoProtoSchema, proto);
}

/** Only the name is new: types that nobody looks into, remarks and unknown fields stay. */
function renameValue(message: Uint8Array, name: string): Uint8Array {
  const writer = new BinaryWriter().tag(nameField, WireType.LengthDelimited).bytes(encodeText(name));
  for (const record of recordsIn(message, name)) if (record.field !== nameField) writer.raw(record.raw);
  return writer.finish();
}

/** Field number of the name of a `ValueInfoProto`. */
const nameField = 1;

function dimension(size: number | string | null) {
  if (typeof size === "number") return { case: "dimValue", value: BigInt(size) } as const;
  if (typeof size === "string") return { case: "dimParam", value: encodeText(size) } as const;
  return { case: undefined };
}

function readType(proto: ValueInfoProto): ValueType {
  const tensor = proto.type?.tensorType;
  const elementType = tensor === undefined ? undefined : elementTypeOf(tensor.elemType);
  if (tensor === undefined || elementType === undefined) return { kind: "other" };
  const shape = tensor.shape?.dim.map((dim) => {
    // Some exporters write -1 for a size that is open.
    if (dim.value.case === "dimValue") return dim.value.value < 0 ? null : Number(dim.value.value);
    return dim.value.case === "dimParam" && dim.value.value.length > 0 ? decodeText(dim.value.value) : null;
  });
  return shape === undefined ? { kind: "tensor", elementType } : { kind: "tensor", elementType, shape };
}
