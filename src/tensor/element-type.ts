/** Element types by ONNX's names in lower case; `bits` is the size of one stored element. */
const sizes = {
  float32: 32,
  float64: 64,
  float16: 16,
  bfloat16: 16,
  int8: 8,
  int16: 16,
  int32: 32,
  int64: 64,
  uint8: 8,
  uint16: 16,
  uint32: 32,
  uint64: 64,
  int4: 4,
  uint4: 4,
  int2: 2,
  uint2: 2,
  bool: 8,
  string: 0,
  complex64: 64,
  complex128: 128,
  float8e4m3fn: 8,
  float8e4m3fnuz: 8,
  float8e5m2: 8,
  float8e5m2fnuz: 8,
  float8e8m0: 8,
  float4e2m1: 4,
  float6e2m3: 6,
  float6e3m2: 6,
} as const;

export type ElementType = keyof typeof sizes;

/** The float types that layers are computed in and that Recoup quantizes. */
export type FloatType = "float32" | "float64" | "float16" | "bfloat16";

/** Size of one stored element in bits; 0 for strings, which have none. */
export function bitsOf(type: ElementType): number {
  return sizes[type];
}

export function isFloatType(type: ElementType): type is FloatType {
  return type === "float32" || type === "float64" || type === "float16" || type === "bfloat16";
}

/** Bytes that `count` elements take: elements below 8 bits are packed over the flattened tensor, rows are not padded. */
export function bytesFor(type: ElementType, count: number): number {
  return Math.ceil((count * sizes[type]) / 8);
}
