import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fromRows, toRows } from "./rows.js";
import { elementCount } from "./shape.js";

const shaped = fc
  .array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 })
  .chain((shape) => fc.tuple(fc.constant(shape), fc.nat(shape.length - 1)));

describe("toRows", () => {
  it("makes a row of each index of an axis, the rest in storage order", () => {
    const values = Float32Array.from({ length: 12 }, (_, i) => i);
    expect([...toRows(values, [2, 3, 2], 0)]).toEqual([...values]);
    expect([...toRows(values, [2, 3, 2], 1)]).toEqual([0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
    expect([...toRows(values, [2, 3, 2], 2)]).toEqual([0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]);
  });

  it("makes them of sizes beyond those that are moved together", () => {
    const [rows, columns] = [70, 33];
    const values = Float32Array.from({ length: rows * columns }, (_, i) => i);
    const expected = values.map((_, i) => (i % rows) * columns + Math.floor(i / rows));
    expect(toRows(values, [rows, columns], 1)).toEqual(expected);
    const codes = Int8Array.from(values, (value) => value % 100);
    expect(
      fromRows(
        Int8Array.from(toRows(values, [rows, columns], 1), (v) => v % 100),
        [rows, columns],
        1,
      ),
    ).toEqual(codes);
  });

  it("is undone by fromRows", () => {
    fc.assert(
      fc.property(shaped, ([shape, axis]) => {
        const codes = Int8Array.from({ length: elementCount(shape) }, (_, i) => i % 256);
        const rows = Int8Array.from(toRows(Float32Array.from(codes), shape, axis));
        expect(fromRows(rows, shape, axis)).toEqual(codes);
      }),
      { seed: 1 },
    );
  });
});
