import { describe, expect, it } from "vitest";
import { bytes, concat, hex, number, text } from "../../test/wire.js";
import type { Value } from "../graph/graph.js";
import { encodeValue, readValue } from "./value.js";

const read = (...parts: readonly Uint8Array[]) => readValue(concat(...parts), "graph.input[0]");
const tensorType = (...parts: readonly Uint8Array[]) => bytes(2, bytes(1, ...parts));
const shape = (...dims: readonly Uint8Array[]) => bytes(2, ...dims.map((dim) => bytes(1, dim)));

describe("readValue", () => {
  it("reads fixed, named and unknown sizes", () => {
    const dims = shape(number(1, 3), text(2, "batch"), text(2, ""), new Uint8Array(), text(3, "DATA_CHANNEL"));
    const { name, type } = read(text(1, "x"), tensorType(number(1, 10), dims));
    expect({ name, type }).toEqual({
      name: "x",
      type: { kind: "tensor", elementType: "float16", shape: [3, "batch", null, null, null] },
    });
  });

  it("takes a negative size, as older Paddle2ONNX writes it, for an unknown one, and writes it back as it was", () => {
    const message = concat(text(1, "x"), tensorType(number(1, 1), shape(number(1, -1), number(1, 3), number(1, 0))));
    const value = readValue(message, "graph.input[0]");
    expect(value.type).toEqual({ kind: "tensor", elementType: "float32", shape: [null, 3, 0] });
    expect(hex(encodeValue(value))).toBe(hex(message));
  });

  it("tells a scalar from a value of unknown rank", () => {
    expect(read(text(1, "x"), tensorType(number(1, 1), shape())).type).toEqual({
      kind: "tensor",
      elementType: "float32",
      shape: [],
    });
    expect(read(text(1, "x"), tensorType(number(1, 1))).type).toEqual({ kind: "tensor", elementType: "float32" });
  });

  it.each([
    ["no type", new Uint8Array()],
    ["a sequence", bytes(2, bytes(4, bytes(1, bytes(1, number(1, 1)))))],
    ["an element type of the future", tensorType(number(1, 99))],
  ])("does not look into %s", (_about, type) => {
    expect(read(text(1, "x"), type).type).toEqual({ kind: "other" });
  });
});

describe("encodeValue", () => {
  it("writes what it reads", () => {
    const values: readonly Value[] = [
      { name: "a", type: { kind: "tensor", elementType: "int64", shape: [1, "n", null] } },
      { name: "b", type: { kind: "tensor", elementType: "float32", shape: [] } },
      { name: "c", type: { kind: "tensor", elementType: "uint2" } },
      { name: "d", type: { kind: "other" } },
    ];
    for (const { name, type } of values) {
      const again = readValue(encodeValue({ name, type }), "v");
      expect({ name: again.name, type: again.type }).toEqual({ name, type });
    }
  });

  it("keeps documentation and types it does not look into where nobody changed the type", () => {
    const message = concat(text(1, "x"), text(3, "about"), bytes(2, bytes(9, number(1, 1))));
    const value = readValue(message, "v");
    expect(hex(encodeValue(value))).toBe(hex(message));
    const renamed = concat(text(1, "y"), text(3, "about"), bytes(2, bytes(9, number(1, 1))));
    expect(hex(encodeValue({ ...value, name: "y" }))).toBe(hex(renamed));
    expect(hex(encodeValue({ ...value, type: { kind: "other" } }))).toBe(hex(text(1, "x")));
  });
});
