import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sortFloats } from "./sort-floats.js";

const sizes = [0, 1, 511, 512, 700, 5000];

describe("sortFloats", () => {
  it.each(sizes)("sorts %i numbers of any kind as the language does, within a larger buffer", (size) => {
    const number = fc.oneof(
      fc.float({ noNaN: true }),
      fc.constantFrom(0, -0, 1, -1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e-45, -1e-45),
    );
    fc.assert(
      fc.property(fc.array(number, { minLength: size, maxLength: size, size: "max" }), (numbers) => {
        const around = Float32Array.from([9, ...numbers, -9]);
        const values = around.subarray(1, size + 1);
        const expected = values.slice().sort();
        expect(sortFloats(values)).toBe(values);
        const wrong = expected.findIndex((value, i) => !Object.is(value, values[i]));
        expect(wrong).toBe(-1);
        expect([around[0], around[size + 1]]).toEqual([9, -9]);
      }),
      { seed: 1, numRuns: 10 },
    );
  });
});
