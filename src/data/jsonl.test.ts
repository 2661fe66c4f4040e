import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RecoupError } from "../errors.js";
import type { Dimension, Value } from "../graph/graph.js";
import type { ElementType } from "../tensor/element-type.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { readJsonl } from "./jsonl.js";

function input(name: string, elementType: ElementType, shape?: readonly Dimension[]): Value {
  return { name, type: { kind: "tensor", elementType, shape } };
}

const ids = input("input_ids", "int64", ["batch", "sequence"]);

function read(text: string, inputs: readonly Value[] = [ids]): readonly ReadonlyMap<string, Tensor>[] {
  return readJsonl(new TextEncoder().encode(text), inputs);
}

function refusal(text: string, inputs?: readonly Value[]): RecoupError {
  try {
    read(text, inputs);
  } catch (error) {
    if (error instanceof RecoupError) return error;
    throw error;
  }
  throw new Error("was not refused");
}

describe("readJsonl", () => {
  it("reads a sample a line and adds the batch dimension", () => {
    const samples = read('{"input_ids":[1,2,3]}\n\n{"input_ids":[4]}\r\n');
    expect(samples.map((feeds) => feeds.get("input_ids")?.shape)).toEqual([
      [1, 3],
      [1, 1],
    ]);
    expect(samples.map((feeds) => integerValues(feeds.get("input_ids") as Tensor))).toEqual([[1, 2, 3], [4]]);
  });

  it("keeps a batch dimension that is there", () => {
    expect(read('{"input_ids":[[1,2]]}')[0].get("input_ids")?.shape).toEqual([1, 2]);
  });

  it("gives every input the element type that the model asks for", () => {
    const inputs = [
      input("x", "float32", [1, 2, 2]),
      input("h", "float16", [1, 1]),
      input("m", "bool", [1, 2]),
      input("t", "int32", [1]),
      input("free", "int8"),
    ];
    const [feeds] = read('{"x":[[1,0.5],[-2,3]],"h":[0.1],"m":[true,0],"t":7,"free":[1]}', inputs);
    expect([...feeds].map(([name, { type, shape }]) => [name, type, shape])).toEqual([
      ["x", "float32", [1, 2, 2]],
      ["h", "float16", [1, 1]],
      ["m", "bool", [1, 2]],
      ["t", "int32", [1]],
      ["free", "int8", [1]],
    ]);
    expect([...float32Values(feeds.get("x") as Tensor)]).toEqual([1, 0.5, -2, 3]);
    expect([...(feeds.get("m") as Tensor).bytes()]).toEqual([1, 0]);
  });

  it.each([
    ["a missing key", "{}", "data/mismatch", "line 1: input_ids"],
    ["an unknown key", '{"input_ids":[1],"extra":[1]}', "data/mismatch", "line 1: extra"],
    ["rows of different lengths", '{"input_ids":[[1,2],[3]]}', "data/mismatch", "line 1: input_ids"],
    ["a list beside a number", '{"input_ids":[1,[2]]}', "data/mismatch", "line 1: input_ids"],
    ["an empty list", '{"input_ids":[]}', "data/mismatch", "line 1: input_ids"],
    ["text for a number", '{"input_ids":["1"]}', "data/mismatch", "line 1: input_ids"],
    ["null for a number", '{"input_ids":[null]}', "data/mismatch", "line 1: input_ids"],
    ["a fraction for an integer", '{"input_ids":[1.5]}', "data/mismatch", "line 1: input_ids"],
    ["a boolean for an integer", '{"input_ids":[true]}', "data/mismatch", "line 1: input_ids"],
    ["an integer that JSON rounds", '{"input_ids":[9007199254740993]}', "data/mismatch", "line 1: input_ids"],
    ["three axes for two", '{"input_ids":[[[1]]]}', "data/mismatch", "line 1: input_ids"],
    ["what is not JSON", '{"input_ids":[1]}\n{', "data/unreadable", "line 2"],
    ["what is not an object", "[1]", "data/unreadable", "line 1"],
    [
      "more axes than any model has",
      `{"input_ids":${"[".repeat(50)}1${"]".repeat(50)}}`,
      "data/mismatch",
      "line 1: input_ids",
    ],
  ])("refuses %s and names its line", (_, text, code, field) => {
    expect(refusal(text)).toMatchObject({ code, place: { field } });
  });

  it("refuses a number beyond the element type", () => {
    expect(refusal('{"x":[128]}', [input("x", "int8", [1, 1])]).message).toContain("128 is no int8");
    expect(refusal('{"x":[-1]}', [input("x", "uint8", [1, 1])]).code).toBe("data/mismatch");
  });

  it("refuses bytes that are no text", () => {
    expect(() => readJsonl(Uint8Array.of(0x7b, 0xff, 0x7d), [ids])).toThrow(
      expect.objectContaining({ code: "data/unreadable", place: { field: "line 1" } }),
    );
  });

  it("gives back the numbers it was given", () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.maxSafeInteger(), { minLength: 1 })), (rows) => {
        const samples = read(rows.map((row) => JSON.stringify({ input_ids: row })).join("\n"));
        expect(samples.map((feeds) => integerValues(feeds.get("input_ids") as Tensor))).toEqual(rows);
      }),
    );
  });

  it("ends with samples or a RecoupError for any JSON", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        try {
          read(`{"input_ids":${text}}`);
        } catch (error) {
          expect(error).toBeInstanceOf(RecoupError);
        }
      }),
    );
  });
});
