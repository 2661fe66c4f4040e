import { afterAll, describe, expect, it } from "vitest";
import { runModel } from "../../test/models.js";
import {
  attributeOf,
  attributeType,
  bytes,
  concat,
  entry,
  tensorField as field,
  float,
  hex,
  initializerOf,
  littleEndian,
  modelOf,
  nodeOf,
  number,
  opset,
  tensorOf,
  text,
  varint,
} from "../../test/wire.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { elementCodeOf } from "../tensor/element-code.js";
import type { ElementType } from "../tensor/element-type.js";
import { float64Values, integerValues, type Tensor, tensorFromBytes } from "../tensor/tensor.js";
import { noExternalData } from "./external-data.js";
import { mostAxes } from "./limits.js";
import { joinChunks, readModel } from "./model.js";
import { encodeTensor, type FileTensor, readTensor } from "./tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const read = (message: Uint8Array) => readTensor(message, "graph.initializer[0]", noExternalData).tensor;
const packed = (number: number, ...values: readonly (number | bigint)[]) =>
  bytes(number, ...values.map((value) => varint(value)));
const valuesOf = (tensor: Tensor): readonly number[] =>
  tensor.type.includes("float") ? [...float64Values(tensor)] : integerValues(tensor);

/** The same three to five elements, in the field that the format has for the type, by hand. */
const typed: readonly (readonly [type: ElementType, data: Uint8Array, values: readonly number[]])[] = [
  ["float32", bytes(field.floatData, littleEndian(Float32Array.of(1.5, -2, 1e-40))), [1.5, -2, Math.fround(1e-40)]],
  ["float64", bytes(field.doubleData, littleEndian(Float64Array.of(0.1, -1e300))), [0.1, -1e300]],
  ["float16", packed(field.int32Data, 0x3c00, 0xc000, 0x0001), [1, -2, 2 ** -24]],
  ["bfloat16", packed(field.int32Data, 0x3f80, 0xc000), [1, -2]],
  ["int8", packed(field.int32Data, -128, -1, 127), [-128, -1, 127]],
  ["uint8", packed(field.int32Data, 0, 128, 255), [0, 128, 255]],
  ["int16", packed(field.int32Data, -32768, 32767), [-32768, 32767]],
  ["uint16", packed(field.int32Data, 0, 65535), [0, 65535]],
  ["int32", packed(field.int32Data, -(2 ** 31), 2 ** 31 - 1), [-(2 ** 31), 2 ** 31 - 1]],
  ["uint32", packed(field.uint64Data, 0, 2 ** 32 - 1), [0, 2 ** 32 - 1]],
  ["int64", packed(field.int64Data, -5, 2n ** 63n - 1n), [-5, 2 ** 63]],
  ["uint64", packed(field.uint64Data, 7, 2n ** 64n - 1n), [7, 2 ** 64]],
  ["bool", packed(field.int32Data, 1, 0, 1), [1, 0, 1]],
  ["int4", packed(field.int32Data, 0x21, 0x83, 0x0f), [1, 2, 3, -8, -1]],
  ["uint4", packed(field.int32Data, 0x21, 0x83, 0x0f), [1, 2, 3, 8, 15]],
  ["int2", packed(field.int32Data, 0xe4, 0x01), [0, 1, -2, -1, 1]],
  ["uint2", packed(field.int32Data, 0xe4, 0x01), [0, 1, 2, 3, 1]],
];

describe("elements in the field of their type", () => {
  it.each(typed)("reads %s", (type, data, values) => {
    const tensor = read(tensorOf("w", elementCodeOf(type), [values.length], data));
    expect(tensor).toMatchObject({ type, shape: [values.length], sizeBytes: tensor.bytes().length });
    expect(valuesOf(tensor)).toEqual(values);
  });

  it.each(typed)("reads %s as the runtime does", async (type, data, values) => {
    const dataType = elementCodeOf(type);
    const initializer = initializerOf("w", dataType, [values.length], data);
    // What cannot leave the runtime leaves it as another type that holds every value.
    const to = type === "bfloat16" ? "float32" : /int[24]$/.test(type) ? "int32" : type;
    const cast = nodeOf("Cast", ["w"], ["y"], attributeOf("to", attributeType.int, number(3, elementCodeOf(to))));
    const graph = concat(cast, text(2, "g"), initializer, bytes(12, text(1, "y")));
    const model = concat(number(1, 13), bytes(7, graph), opset(25));
    const output = (await runModel(engine, readModel(model), new Map())).get("y")!;
    expect(output.type).toBe(to);
    expect(valuesOf(output)).toEqual(values);
  });

  it.each<readonly [about: string, message: Uint8Array, values: readonly number[]]>([
    ["unpacked floats", tensorOf("w", 1, [2], float(field.floatData, 1), float(field.floatData, -3)), [1, -3]],
    ["unpacked whole numbers", tensorOf("w", 6, [2], number(field.int32Data, 4), number(field.int32Data, -5)), [4, -5]],
    ["data in pieces", tensorOf("w", 7, [3], packed(field.int64Data, 1, 2), packed(field.int64Data, 3)), [1, 2, 3]],
    [
      "packed dims",
      concat(bytes(field.dims, varint(1), varint(2)), tensorOf("w", 2, [], bytes(9, Uint8Array.of(1, 2)))),
      [1, 2],
    ],
    ["a scalar", tensorOf("w", 7, [], packed(field.int64Data, 9)), [9]],
    ["an empty tensor without data", tensorOf("w", 1, [0, 3]), []],
    ["an empty tensor with empty data", tensorOf("w", 1, [0], bytes(field.rawData)), []],
    ["no values in four bits", tensorOf("w", 22, [0]), []],
    ["overlong varints", tensorOf("w", 2, [2], bytes(field.int32Data, varint(1, 3), varint(200, 4))), [1, 200]],
    [
      "fields out of order",
      concat(bytes(field.rawData, Uint8Array.of(5)), text(8, "w"), number(2, 2), number(1, 1)),
      [5],
    ],
    [
      "a field given twice, of which the last counts",
      tensorOf("w", 1, [1], number(2, 2), bytes(9, Uint8Array.of(7))),
      [7],
    ],
    ["a data type written long", concat(number(2, 2, 5), bytes(9, Uint8Array.of(7))), [7]],
  ])("reads %s", (_about, message, values) => {
    expect(valuesOf(read(message))).toEqual(values);
  });

  it("reads complex numbers as their parts", () => {
    const parts = littleEndian(Float32Array.of(1, 2, 3, 4));
    expect(hex(read(tensorOf("w", 14, [2], bytes(field.floatData, parts))).bytes())).toBe(hex(parts));
    const wide = littleEndian(Float64Array.of(1, 2));
    expect(hex(read(tensorOf("w", 15, [1], bytes(field.doubleData, wide))).bytes())).toBe(hex(wide));
  });

  it("reads raw bytes without a copy and decodes typed ones once", () => {
    const raw = tensorOf("w", 1, [2], bytes(field.rawData, new Uint8Array(8)));
    expect(read(raw).bytes().buffer).toBe(raw.buffer);
    const decoded = read(tensorOf("w", 6, [1], number(field.int32Data, 4)));
    expect(decoded.bytes()).toBe(decoded.bytes());
  });
});

describe("tensors that are refused", () => {
  it.each<readonly [about: string, code: string, message: Uint8Array]>([
    ["too few raw bytes", "onnx/tensor", tensorOf("w", 1, [2], bytes(field.rawData, new Uint8Array(7)))],
    ["too many raw bytes", "onnx/tensor", tensorOf("w", 22, [3], bytes(field.rawData, new Uint8Array(3)))],
    ["an element type of the future", "onnx/unsupported", tensorOf("w", 99, [1])],
    ["no element type", "onnx/unsupported", concat(number(1, 1), text(8, "w"))],
    ["a negative element type", "onnx/unsupported", tensorOf("w", -1, [1])],
    ["segments", "onnx/unsupported", tensorOf("w", 1, [1], bytes(field.segment, number(1, 0), number(2, 1)))],
    ["a negative size", "onnx/tensor", tensorOf("w", 1, [-1, -1])],
    ["sizes whose product is not a number of bytes", "onnx/tensor", tensorOf("w", 1, [2 ** 30, 2 ** 30])],
    ["a size beyond all others", "onnx/tensor", concat(number(1, 2n ** 63n - 1n), number(1, 0), number(2, 1))],
    ["more axes than anybody knows", "onnx/limit", tensorOf("w", 1, new Array(mostAxes + 1).fill(1))],
    ["packed axes without end", "onnx/limit", concat(bytes(field.dims, new Uint8Array(1000)), number(2, 1))],
    ["too few numbers", "onnx/tensor", tensorOf("w", 6, [3], packed(field.int32Data, 1, 2))],
    ["no numbers for a huge shape", "onnx/tensor", tensorOf("w", 1, [2 ** 40])],
    ["half a float", "onnx/malformed", tensorOf("w", 1, [1], bytes(4, new Uint8Array(2)), bytes(4, new Uint8Array(2)))],
    ["floats as varints", "onnx/malformed", tensorOf("w", 1, [1], number(field.floatData, 1))],
    ["half a varint", "onnx/tensor", tensorOf("w", 6, [1], bytes(field.int32Data, Uint8Array.of(0x80)))],
    ["dims of another wire type", "onnx/malformed", concat(float(field.dims, 1), number(2, 1))],
    ["a data type of another wire type", "onnx/malformed", concat(text(2, "1"))],
    ["raw data of another wire type", "onnx/malformed", tensorOf("w", 1, [1], number(field.rawData, 1))],
  ])("refuses %s", (_about, code, message) => {
    expect(() => read(message)).toThrow(expect.objectContaining({ code }));
  });

  it.each<readonly [about: string, code: string, message: Uint8Array]>([
    ["a broken varint", "onnx/malformed", tensorOf("w", 6, [1], bytes(field.int32Data, Uint8Array.of(1, 0x80)))],
    ["a varint of eleven bytes", "onnx/malformed", tensorOf("w", 6, [1], number(field.int32Data, 1, 11))],
    ["strings", "onnx/tensor", tensorOf("w", 8, [1], text(field.stringData, "a"))],
  ])("refuses %s when the elements are asked for", (_about, code, message) => {
    const tensor = read(message);
    expect(() => tensor.bytes()).toThrow(expect.objectContaining({ code, place: { field: "w" } }));
  });
});

describe("encodeTensor", () => {
  const encode = (...parts: Parameters<typeof encodeTensor>) => joinChunks(encodeTensor(...parts));

  it("writes raw bytes, by hand", () => {
    const tensor = tensorFromBytes("uint8", [2, 1], Uint8Array.of(3, 4));
    expect(hex(encode("w", tensor))).toBe("08020801" + "1002" + "420177" + "4a020304");
  });

  it("writes what it reads, whatever field the elements stood in", () => {
    for (const [type, data, values] of typed) {
      const written = read(encode("w", read(tensorOf("w", elementCodeOf(type), [values.length], data))));
      expect([written.type, written.shape, valuesOf(written)]).toEqual([type, [values.length], values]);
    }
  });

  it("keeps documentation, metadata and unknown fields under the new name", () => {
    const kept = [text(field.docString, "about"), entry(field.metadataProps, "k", "v"), text(99, "?")];
    const tensor = read(tensorOf("w", 2, [1], ...kept, number(field.int32Data, 4)));
    const written = hex(encode("v", tensor));
    for (const part of kept) expect(written).toContain(hex(part));
    expect(written).toContain(hex(text(field.name, "v")));
    expect(written).not.toContain(hex(text(field.name, "w")));
  });

  it("writes a reference in the place of the bytes", () => {
    const tensor = tensorFromBytes("uint8", [2], Uint8Array.of(3, 4));
    const message = encode("w", tensor, { location: "w.data", offset: 4096 });
    for (const [key, value] of Object.entries({ location: "w.data", offset: "4096", length: "2" })) {
      expect(hex(message)).toContain(hex(entry(field.externalData, key, value)));
    }
    expect(hex(message)).toContain(hex(number(field.dataLocation, 1)));
    const asked: unknown[] = [];
    const read = (...parts: readonly unknown[]) => {
      asked.push(parts);
      return Uint8Array.of(5, 6);
    };
    expect(readTensor(message, "t", { read }).tensor.bytes()).toEqual(Uint8Array.of(5, 6));
    expect(asked).toEqual([["w.data", 4096, 2, "w"]]);
  });

  it("writes strings under another name as they were read, and none that no file has held", () => {
    const stored = tensorOf("w", 8, [1], text(field.stringData, "a"), text(field.docString, "about"));
    const written = read(encode("v", read(stored)));
    expect(hex((written as FileTensor).message)).toContain(hex(text(field.stringData, "a")));
    expect(hex((written as FileTensor).message)).toContain(hex(text(field.docString, "about")));
    const made = { type: "string", shape: [1], sizeBytes: 0, bytes: () => new Uint8Array() } as const;
    expect(() => encode("v", made)).toThrow(expect.objectContaining({ code: "onnx/tensor" }));
  });
});

it("reads and writes a tensor attribute", async () => {
  const value = bytes(5, tensorOf("", 1, [2], bytes(field.rawData, littleEndian(Float32Array.of(1, 2)))));
  const constant = nodeOf("Constant", [], ["y"], attributeOf("value", attributeType.tensor, value));
  const model = readModel(modelOf(concat(constant, text(2, "g"), bytes(12, text(1, "y")))));
  const output = (await runModel(engine, model, new Map())).get("y")!;
  expect([...float64Values(output)]).toEqual([1, 2]);
});
