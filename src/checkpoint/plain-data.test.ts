import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeData, encodeData } from "./plain-data.js";

const malformed = { code: "checkpoint/malformed", exitCode: 2 };
const noArrays = new Uint8Array();

describe("encodeData", () => {
  it("is JSON and the elements of the arrays, by hand", () => {
    const data = {
      codes: Int8Array.of(-1, 2),
      scale: 0.5,
      label: "a",
      worst: Number.POSITIVE_INFINITY,
      remark: undefined,
    };
    expect(encodeData(data)).toEqual({
      text: '{"codes":{"@array":"int8","length":2},"scale":0.5,"label":"a","worst":{"@value":"Infinity"},"remark":{"@value":"undefined"}}',
      arrays: Uint8Array.of(255, 2),
    });
  });

  it.each([
    ["a function", () => 1],
    ["a big integer", 1n],
    ["a map", new Map()],
    ["an object of a class", new Date(0)],
  ])("takes no %s", (_about, data) => {
    expect(() => encodeData({ data })).toThrow(TypeError);
  });
});

describe("decodeData", () => {
  const arrays = fc.oneof(
    fc.int8Array(),
    fc.uint8Array(),
    fc.int16Array(),
    fc.uint16Array(),
    fc.int32Array(),
    fc.uint32Array(),
    fc.float32Array(),
    fc.float64Array(),
  );
  const { data } = fc.letrec<{ readonly data: unknown; readonly leaf: unknown }>((tie) => ({
    data: fc.oneof(
      { depthSize: "small" },
      tie("leaf"),
      fc.array(tie("data"), { maxLength: 4 }),
      fc.dictionary(fc.oneof(fc.string(), fc.constantFrom("@array", "@@", "__proto__")), tie("data"), {
        maxKeys: 4,
        noNullPrototype: true,
      }),
    ),
    leaf: fc.oneof(fc.constantFrom(null, undefined), fc.boolean(), fc.string(), fc.double(), arrays),
  }));

  it("gives back what was encoded, to the bit", () => {
    fc.assert(
      fc.property(data, (given) => {
        expect(decodeData(encodeData(given))).toStrictEqual(given);
      }),
    );
  });

  it("gives back arrays that nothing else shares", () => {
    const { text, arrays: bytes } = encodeData([Int8Array.of(1), Float64Array.of(2)]);
    const [, numbers] = decodeData({ text, arrays: bytes }) as [Int8Array, Float64Array];
    bytes.fill(0);
    expect(numbers[0]).toBe(2);
    expect(numbers.byteOffset).toBe(0);
  });

  it.each([
    ["no JSON", "{", noArrays],
    ["an array of an unknown type", '{"@array":"float128","length":1}', new Uint8Array(16)],
    ["an array of a type that every object has", '{"@array":"constructor","length":1}', new Uint8Array(16)],
    ["an array that is too long", '{"@array":"float64","length":2}', new Uint8Array(8)],
    ["an array of a negative length", '{"@array":"float64","length":-1}', noArrays],
    ["an array of half an element", '{"@array":"float64","length":0.5}', new Uint8Array(4)],
    ["an array without a length", '{"@array":"int8"}', noArrays],
    ["bytes of no array", "[]", new Uint8Array(1)],
    ["a value that is none", '{"@value":"1"}', noArrays],
    ["a mark that is none", '{"x":1,"@date":1}', noArrays],
    ["too many levels", `${"[".repeat(5000)}${"]".repeat(5000)}`, noArrays],
  ])("refuses %s", (_about, text, bytes) => {
    expect(() => decodeData({ text, arrays: bytes })).toThrow(expect.objectContaining(malformed));
  });
});
