import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RecoupError } from "../errors.js";
import type { ElementType } from "../tensor/element-type.js";
import { float32Tensor, float32Values, int64Tensor, integerValues, tensorFromBytes } from "../tensor/tensor.js";
import { encodeNpy, readNpy } from "./npy.js";

function npy(header: string, body: readonly number[], version = 1): Uint8Array {
  const length = version === 1 ? [header.length & 0xff, header.length >> 8] : [header.length, 0, 0, 0];
  const text = [...header].map((character) => character.charCodeAt(0));
  return Uint8Array.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, version, 0, ...length, ...text, ...body]);
}

function header(descr: string, shape: string, order = "False"): string {
  return `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': ${shape}, }\n`;
}

function refusal(run: () => unknown): RecoupError {
  try {
    run();
  } catch (error) {
    if (error instanceof RecoupError) return error;
    throw error;
  }
  throw new Error("was not refused");
}

describe("readNpy", () => {
  it("reads what NumPy writes for np.array([1, 2, 3], 'int16')", () => {
    const tensor = readNpy(npy(header("'<i2'", "(3,)"), [1, 0, 2, 0, 3, 0]));
    expect(tensor).toMatchObject({ type: "int16", shape: [3] });
    expect(integerValues(tensor)).toEqual([1, 2, 3]);
  });

  it("turns big endian around", () => {
    expect(integerValues(readNpy(npy(header("'>i2'", "(2,)"), [0, 1, 1, 0])))).toEqual([1, 256]);
  });

  it("transposes Fortran order", () => {
    // [[1, 2, 3], [4, 5, 6]], column by column.
    const tensor = readNpy(npy(header("'|u1'", "(2, 3)", "True"), [1, 4, 2, 5, 3, 6]));
    expect(tensor.shape).toEqual([2, 3]);
    expect(integerValues(tensor)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("transposes three axes, big endian", () => {
    // Element [i, j, k] is 100 i + 10 j + k; i varies fastest.
    const body = [0, 1, 2].flatMap((k) => [0, 1].flatMap((j) => [0, 1].flatMap((i) => [0, 100 * i + 10 * j + k])));
    const values = integerValues(readNpy(npy(header("'>u2'", "(2, 2, 3)", "True"), body)));
    expect(values).toEqual([0, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112]);
  });

  it("reads versions 2 and 3, Python 2's sizes and double quotes", () => {
    expect(integerValues(readNpy(npy(header('"|i1"', "(2L,)"), [1, 255], 2)))).toEqual([1, -1]);
    expect(integerValues(readNpy(npy(header("'|b1'", "()"), [1], 3)))).toEqual([1]);
  });

  it.each([
    ["objects", header("'|O'", "(1,)"), [1]],
    ["records", header("[('a', '<f4')]", "(1,)"), [0, 0, 0, 0]],
    ["text", header("'<U3'", "(1,)"), [0]],
    ["a body that is cut short", header("'<f4'", "(2,)"), [0, 0, 0, 0]],
    ["a body that is too long", header("'|u1'", "(1,)"), [0, 0]],
    ["a size beyond all memory", header("'<f8'", "(9007199254740991, 9007199254740991)"), [0]],
    ["an expression for a size", header("'|u1'", "(1 + 1,)"), [0, 0]],
    ["a call", header("'|u1'", "__import__('os')"), [0]],
    ["a negative size", header("'|u1'", "(-1,)"), [0]],
    ["a missing key", "{'descr': '|u1', 'shape': (1,), }", [0]],
    ["text after the dictionary", `${header("'|u1'", "(1,)")}x`, [0]],
  ])("refuses %s", (_, text, body) => {
    expect(refusal(() => readNpy(npy(text, body))).code).toBe("data/unreadable");
  });

  it("says that Python objects are not read", () => {
    expect(refusal(() => readNpy(npy(header("'|O'", "(1,)"), [1]))).message).toMatch(/Python objects/);
  });

  it("ends with an array or a RecoupError for bytes that were changed or cut off", () => {
    const original = encodeNpy(float32Tensor([2, 3], [1, 2, 3, 4, 5, 6]));
    const changes = fc.array(fc.tuple(fc.nat(original.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(changes, fc.nat(original.length), (edits, end) => {
        const bytes = original.slice();
        for (const [position, value] of edits) bytes[position] = value;
        for (const part of [bytes, bytes.subarray(0, end)]) {
          try {
            readNpy(part);
          } catch (error) {
            expect(error).toBeInstanceOf(RecoupError);
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("encodeNpy", () => {
  it("writes what NumPy writes", () => {
    const bytes = encodeNpy(int64Tensor([2], [1, -1]));
    const text = new TextDecoder("latin1").decode(bytes.subarray(10, 128));
    expect(text).toBe(`${"{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }".padEnd(117)}\n`);
    expect([...bytes.subarray(128)]).toEqual([1, 0, 0, 0, 0, 0, 0, 0, ...Array(8).fill(255)]);
  });

  it("is read back as it was", () => {
    const types: ElementType[] = [
      "float16",
      "float32",
      "float64",
      "int8",
      "int64",
      "uint8",
      "uint16",
      "uint64",
      "bool",
    ];
    fc.assert(
      fc.property(
        fc.constantFrom(...types),
        fc.array(fc.nat(4), { maxLength: 4 }),
        fc.nat(255),
        (type, shape, fill) => {
          const elementBytes =
            { float16: 2, float32: 4, float64: 8, int64: 8, uint16: 2, uint64: 8 }[type as string] ?? 1;
          const count = shape.reduce((product, size) => product * size, 1);
          const tensor = tensorFromBytes(type, shape, new Uint8Array(count * elementBytes).fill(fill));
          const read = readNpy(encodeNpy(tensor));
          expect(read).toMatchObject({ type, shape, sizeBytes: tensor.sizeBytes });
          expect(read.bytes()).toEqual(tensor.bytes());
        },
      ),
    );
  });

  it("keeps float values", () => {
    expect([...float32Values(readNpy(encodeNpy(float32Tensor([3], [0.5, -2, Number.NaN]))))]).toEqual([0.5, -2, NaN]);
  });

  it("refuses a type that NumPy does not have", () => {
    expect(refusal(() => encodeNpy(tensorFromBytes("int4", [2], new Uint8Array(1)))).code).toBe("onnx/tensor");
  });
});
