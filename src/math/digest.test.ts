import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { digestOf } from "./digest.js";

describe("a digest of numbers", () => {
  it("is the same for the same numbers, wherever they lie", () => {
    const all = Float64Array.of(7, 1.5, -2, Number.NaN);
    expect(digestOf(all.subarray(1))).toBe(digestOf(Float64Array.of(1.5, -2, Number.NaN)));
  });

  it("differs for any two lists", () => {
    const numbers = fc.array(fc.double(), { maxLength: 5 }).map((list) => Float64Array.from(list));
    const isSame = (a: Float64Array, b: Float64Array) => a.length === b.length && a.every((x, i) => Object.is(x, b[i]));
    fc.assert(fc.property(numbers, numbers, (a, b) => isSame(a, b) === (digestOf(a) === digestOf(b))));
  });

  it("notices a change of the last bit, the order and the length", () => {
    const names = [[1, 2], [2, 1], [1, 2 + 2 ** -51], [1, 2, 0], [1], [], [0], [-0]].map((list) =>
      digestOf(Float64Array.from(list)),
    );
    expect(new Set(names).size).toBe(names.length);
  });
});
