import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { elementCodeOf, elementTypeOf } from "./element-code.js";
import { bitsOf, bytesFor, type ElementType, isFloatType } from "./element-type.js";
import { packConsecutive } from "./pack.js";
import { elementCount, isSameShape, resolveAxis, viewAxis } from "./shape.js";
import {
  bytesOf,
  float32Tensor,
  float32Values,
  float64Values,
  floatTensor,
  int8Tensor,
  int32Tensor,
  int64Tensor,
  integerValues,
  tensorFromBytes,
  toInt64,
  uint8Tensor,
} from "./tensor.js";

/** The same bytes at an odd address, as a view of a file is, and as a Node buffer. */
function moved(bytes: Uint8Array): Uint8Array {
  const file = Buffer.alloc(bytes.length + 3);
  file.set(bytes, 3);
  return file.subarray(3);
}

const onnxTensor = expect.objectContaining({ code: "onnx/tensor" });

describe("making tensors", () => {
  it("keeps the bytes it is given", () => {
    const values = Float32Array.of(1, 2, 3, 4);
    const tensor = float32Tensor([2, 2], values);
    expect(tensor).toMatchObject({ type: "float32", shape: [2, 2], sizeBytes: 16 });
    expect(tensor.bytes().buffer).toBe(values.buffer);
    const bytes = Uint8Array.of(1, 2, 3, 4);
    expect(uint8Tensor([4], bytes).bytes()).toBe(bytes);
  });

  it("takes a part of an array, not the whole buffer", () => {
    const part = Float32Array.of(1, 2, 3).subarray(1);
    expect([...float32Values(float32Tensor([2], part))]).toEqual([2, 3]);
  });

  it("writes little endian", () => {
    expect([...int32Tensor([1], [258]).bytes()]).toEqual([2, 1, 0, 0]);
    expect([...int64Tensor([1], [-1]).bytes()]).toEqual(Array(8).fill(255));
    expect([...int8Tensor([2], [-1, 1]).bytes()]).toEqual([255, 1]);
    expect([...floatTensor("float16", [1], [1]).bytes()]).toEqual([0, 0x3c]);
    expect([...floatTensor("bfloat16", [1], [1]).bytes()]).toEqual([0x80, 0x3f]);
  });

  it.each<readonly [type: ElementType, shape: readonly number[], bytes: number]>([
    ["float32", [2], 7],
    ["int4", [3], 1],
    ["int4", [3], 3],
    ["int64", [], 0],
    ["bool", [0], 1],
  ])("refuses %s%j from %i bytes", (type, shape, bytes) => {
    expect(() => tensorFromBytes(type, shape, new Uint8Array(bytes))).toThrow(onnxTensor);
  });

  it("refuses floats of a type that is none", () => {
    expect(() => floatTensor("int8", [1], [1])).toThrow(onnxTensor);
  });
});

describe("reading floats", () => {
  it.each(["float32", "float64", "float16", "bfloat16"] as const)("reads %s at any address", (type) => {
    const bytes = floatTensor(type, [3], [1.5, -2, 0]).bytes();
    const tensor = tensorFromBytes(type, [3], moved(bytes));
    expect(float32Values(tensor)).toEqual(Float32Array.of(1.5, -2, 0));
    expect(float64Values(tensor)).toEqual(Float64Array.of(1.5, -2, 0));
  });

  it("copies nothing that is aligned", () => {
    const values = Float32Array.of(1, 2);
    expect(float32Values(float32Tensor([2], values)).buffer).toBe(values.buffer);
    const wide = Float64Array.of(0.1);
    expect(float64Values(tensorFromBytes("float64", [1], bytesOf(wide))).buffer).toBe(wide.buffer);
  });

  it("keeps the precision of float64 where it is asked to", () => {
    const tensor = floatTensor("float64", [1], [0.1]);
    expect(float64Values(tensor)[0]).toBe(0.1);
    expect(float32Values(tensor)[0]).toBe(Math.fround(0.1));
  });

  it("refuses integers", () => {
    expect(() => float32Values(int32Tensor([1], [1]))).toThrow(onnxTensor);
    expect(() => float64Values(int32Tensor([1], [1]))).toThrow(onnxTensor);
  });
});

describe("reading integers", () => {
  it.each<readonly [type: ElementType, array: ArrayBufferView, values: readonly number[]]>([
    ["int8", Int8Array.of(-128, 127), [-128, 127]],
    ["uint8", Uint8Array.of(0, 255), [0, 255]],
    ["bool", Uint8Array.of(0, 1), [0, 1]],
    ["int16", Int16Array.of(-32768, 32767), [-32768, 32767]],
    ["uint16", Uint16Array.of(0, 65535), [0, 65535]],
    ["int32", Int32Array.of(-(2 ** 31), 5), [-(2 ** 31), 5]],
    ["uint32", Uint32Array.of(2 ** 32 - 1, 5), [2 ** 32 - 1, 5]],
    ["int64", BigInt64Array.of(-3n, 2n ** 63n - 1n), [-3, 2 ** 63]],
    ["uint64", BigUint64Array.of(3n, 2n ** 64n - 1n), [3, 2 ** 64]],
  ])("reads %s at any address", (type, array, values) => {
    expect(integerValues(tensorFromBytes(type, [2], bytesOf(array)))).toEqual(values);
    expect(integerValues(tensorFromBytes(type, [2], moved(bytesOf(array))))).toEqual(values);
  });

  it.each([
    ["int4", 4, -8, 7],
    ["uint4", 4, 0, 15],
    ["int2", 2, -2, 1],
    ["uint2", 2, 0, 3],
  ] as const)("reads %s as it is packed", (type, bits, low, high) => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: low, max: high }), { maxLength: 20 }), (values) => {
        const tensor = tensorFromBytes(type, [values.length], packConsecutive(values, bits));
        expect(integerValues(tensor)).toEqual(values);
      }),
      { seed: 1 },
    );
  });

  it("refuses floats and the small floats that nobody reads", () => {
    for (const type of ["float32", "float8e4m3fn", "float4e2m1", "complex64"] as const) {
      const tensor = tensorFromBytes(type, [2], new Uint8Array(bytesFor(type, 2)));
      expect(() => integerValues(tensor)).toThrow(onnxTensor);
    }
  });
});

it("ends at the limits of int64", () => {
  expect(toInt64(-5)).toBe(-5n);
  expect(toInt64(2 ** 53)).toBe(2n ** 53n);
  expect([toInt64(2 ** 63), toInt64(1e30), toInt64(Number.POSITIVE_INFINITY)]).toEqual(Array(3).fill(2n ** 63n - 1n));
  expect([toInt64(-(2 ** 63)), toInt64(-1e30)]).toEqual(Array(2).fill(-(2n ** 63n)));
  expect(integerValues(int64Tensor([2], [2 ** 63, -1e30]))).toEqual([2 ** 63, -(2 ** 63)]);
});

describe("element types", () => {
  const codes = Array.from({ length: 28 }, (_, i) => i + 1);

  it("have ONNX's numbers", () => {
    const known: readonly (readonly [ElementType, number])[] = [
      ["float32", 1],
      ["string", 8],
      ["float16", 10],
      ["bfloat16", 16],
      ["float8e5m2fnuz", 20],
      ["int4", 22],
      ["float8e8m0", 24],
      ["int2", 26],
      ["float6e3m2", 28],
    ];
    for (const [type, code] of known) expect([type, elementCodeOf(type)]).toEqual([type, code]);
    for (const code of codes) expect(elementCodeOf(elementTypeOf(code)!)).toBe(code);
    for (const code of [0, -1, 29, 2 ** 40]) expect(elementTypeOf(code)).toBeUndefined();
  });

  it("take whole bytes over the flattened tensor", () => {
    expect([bytesFor("int4", 3), bytesFor("uint2", 5), bytesFor("float6e2m3", 4), bytesFor("bool", 2)]).toEqual([
      2, 2, 3, 2,
    ]);
    expect([bytesFor("int4", 0), bytesFor("string", 7), bitsOf("complex128")]).toEqual([0, 0, 128]);
    expect(codes.map((code) => elementTypeOf(code)!).filter(isFloatType)).toEqual([
      "float32",
      "float16",
      "float64",
      "bfloat16",
    ]);
  });
});

describe("shapes", () => {
  it("count their elements", () => {
    expect([elementCount([]), elementCount([2, 3]), elementCount([4, 0])]).toEqual([1, 6, 0]);
    expect([isSameShape([2, 3], [2, 3]), isSameShape([2, 3], [3, 2]), isSameShape([2], [2, 1])]).toEqual([
      true,
      false,
      false,
    ]);
    expect([resolveAxis(-1, 4), resolveAxis(2, 4)]).toEqual([3, 2]);
  });

  it("are seen around an axis", () => {
    expect(viewAxis([2, 3, 4, 5], 1)).toEqual({ outerSize: 2, size: 3, innerSize: 20 });
    expect(viewAxis([7], 0)).toEqual({ outerSize: 1, size: 7, innerSize: 1 });
  });
});
