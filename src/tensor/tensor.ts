import { RecoupError } from "../errors.js";
import { bitsOf, bytesFor, type ElementType, isFloatType } from "./element-type.js";
import { fromBfloat16, fromFloat16, toBfloat16, toFloat16 } from "./half.js";
import { elementCount } from "./shape.js";
import { aligned, typedArrayOf } from "./typed-array.js";

/**
 * A tensor of any element type. The bytes may stand in memory, in a file that has not been read yet, or in a form that
 * must be unpacked: they are asked for when somebody needs them.
 */
export interface Tensor {
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** Size of what `bytes()` returns. */
  readonly sizeBytes: number;
  /**
   * Elements in row-major order, little endian, elements below 8 bits packed with the first one lowest. A view that must
   * not be written to and may be unaligned.
   *
   * @throws RecoupError `onnx/tensor` for strings, `onnx/external-data` where the file is gone
   */
  bytes(): Uint8Array;
}

/**
 * @param bytes as `Tensor.bytes` describes; kept, not copied
 * @throws RecoupError `onnx/tensor` where the number of bytes does not fit the shape
 */
export function tensorFromBytes(type: ElementType, shape: readonly number[], bytes: Uint8Array): Tensor {
  const needed = bytesFor(type, elementCount(shape));
  if (bytes.byteLength !== needed) {
    throw new RecoupError("onnx/tensor", `${type}[${shape}] needs ${needed} bytes, ${bytes.byteLength} are given`);
  }
  return { type, shape, sizeBytes: needed, bytes: () => bytes };
}

export function float32Tensor(shape: readonly number[], values: ArrayLike<number>): Tensor {
  const array = values instanceof Float32Array ? values : Float32Array.from(values);
  return tensorFromBytes("float32", shape, bytesOf(array));
}

export function int64Tensor(shape: readonly number[], values: readonly number[]): Tensor {
  return tensorFromBytes("int64", shape, bytesOf(BigInt64Array.from(values, toInt64)));
}

export function int32Tensor(shape: readonly number[], values: ArrayLike<number>): Tensor {
  return tensorFromBytes("int32", shape, bytesOf(Int32Array.from(values)));
}

export function int8Tensor(shape: readonly number[], values: ArrayLike<number>): Tensor {
  return tensorFromBytes("int8", shape, bytesOf(values instanceof Int8Array ? values : Int8Array.from(values)));
}

export function uint8Tensor(shape: readonly number[], values: ArrayLike<number>): Tensor {
  return tensorFromBytes("uint8", shape, values instanceof Uint8Array ? values : Uint8Array.from(values));
}

/** A float tensor of the given float type from numbers, each rounded to it. */
export function floatTensor(type: ElementType, shape: readonly number[], values: ArrayLike<number>): Tensor {
  switch (type) {
    case "float32":
      return float32Tensor(shape, values);
    case "float64":
      return tensorFromBytes(type, shape, bytesOf(Float64Array.from(values)));
    case "float16":
      return tensorFromBytes(type, shape, bytesOf(Uint16Array.from(values, toFloat16)));
    case "bfloat16":
      return tensorFromBytes(type, shape, bytesOf(Uint16Array.from(values, toBfloat16)));
    default:
      throw new RecoupError("onnx/tensor", `${type} is no float type`);
  }
}

/**
 * The values of a float tensor as float32, a copy or an aligned view that must not be written to.
 *
 * @throws RecoupError `onnx/tensor` for a type that is not a float type
 */
export function float32Values(tensor: Tensor): Float32Array {
  switch (tensor.type) {
    case "float32":
      return new Float32Array(...aligned(tensor.bytes(), 4));
    case "float64":
      return Float32Array.from(new Float64Array(...aligned(tensor.bytes(), 8)));
    case "float16":
      return Float32Array.from(new Uint16Array(...aligned(tensor.bytes(), 2)), fromFloat16);
    case "bfloat16":
      return Float32Array.from(new Uint16Array(...aligned(tensor.bytes(), 2)), fromBfloat16);
    default:
      throw new RecoupError("onnx/tensor", `${tensor.type} is no float type`);
  }
}

/**
 * The values of a float tensor at full precision: for sums and products that are rounded once, at the end.
 *
 * @throws RecoupError `onnx/tensor` for a type that is not a float type
 */
export function float64Values(tensor: Tensor): Float64Array {
  if (tensor.type === "float64") return new Float64Array(...aligned(tensor.bytes(), 8));
  return Float64Array.from(float32Values(tensor));
}

/**
 * The values of an integer or bool tensor as numbers. A 64-bit value beyond 2^53 becomes the nearest double: exporters
 * write 2^63 - 1 for "to the end", and every use clamps it.
 *
 * @throws RecoupError `onnx/tensor` for a type that is no integer type
 */
export function integerValues(tensor: Tensor): number[] {
  const { type } = tensor;
  const bytes = tensor.bytes();
  if (type === "int4" || type === "uint4" || type === "int2" || type === "uint2") return unpackSmall(tensor, bytes);
  const array = isFloatType(type) ? undefined : typedArrayOf(type, bytes);
  if (array === undefined) throw new RecoupError("onnx/tensor", `${type} is no integer type`);
  return Array.from<number | bigint, number>(array, Number);
}

/** A whole number as int64. Beyond the limits it becomes the limit: "to the end" is 2^63 - 1, as a number 2^63. */
export function toInt64(value: number): bigint {
  if (value >= 2 ** 63) return 2n ** 63n - 1n;
  return value < -(2 ** 63) ? -(2n ** 63n) : BigInt(value);
}

/** The bytes behind a typed array, without a copy. Every machine that runs JavaScript engines today is little endian. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength);
}

function unpackSmall(tensor: Tensor, bytes: Uint8Array): number[] {
  const bits = bitsOf(tensor.type);
  const perByte = 8 / bits;
  const mask = (1 << bits) - 1;
  const signBit = tensor.type.startsWith("int") ? 1 << (bits - 1) : 0;
  return Array.from({ length: elementCount(tensor.shape) }, (_, i) => {
    const code = (bytes[Math.floor(i / perByte)] >> (bits * (i % perByte))) & mask;
    return code & signBit ? code - (mask + 1) : code;
  });
}
