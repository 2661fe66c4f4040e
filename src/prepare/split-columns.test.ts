import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { roundHalfEven } from "../math/round.js";
import { float32Tensor, float32Values } from "../tensor/tensor.js";
import { columnsOf, type SplitRule, splitLargest, splitWeight } from "./split-columns.js";
import { fromColumns, type GroupColumns, toColumns } from "./weight-columns.js";

const aware: SplitRule = { count: 1, split: "aware", again: true };

function group(...columns: readonly (readonly number[])[]): GroupColumns {
  return { firstRow: 0, rows: columns[0].length, columns: columns.map((column) => Float64Array.from(column)) };
}

describe("splitLargest", () => {
  it("puts a quarter of a step between the middle and the halves, and leaves zeros", () => {
    const given = group([1, -2], [4, 0]);
    const pieces = splitLargest(given, 1, [0.5], aware);
    expect(columnsOf(given, 1, [0.5], pieces)).toEqual([
      Float64Array.of(1, -2),
      Float64Array.of(1.875, 0),
      Float64Array.of(2.125, 0),
    ]);
  });

  it("measures each row in its own scale", () => {
    const given = group([1, 1], [4, 0.5], [1, 3]);
    const rule: SplitRule = { ...aware, split: "naive" };
    expect(splitLargest(given, 1, [1, 1], rule).map(({ source }) => source)).toEqual([0, 1, 2, 1]);
    expect(splitLargest(given, 1, [1, 0.5], rule).map(({ source }) => source)).toEqual([0, 1, 2, 2]);
  });

  it("splits a half again only where that is allowed", () => {
    const given = group([1], [8]);
    const rule: SplitRule = { count: 2, split: "naive", again: true };
    expect(splitLargest(given, 1, [1], rule).map(({ source }) => source)).toEqual([0, 1, 1, 1]);
    expect(splitLargest(given, 1, [1], { ...rule, again: false }).map(({ source }) => source)).toEqual([0, 1, 1, 0]);
  });

  it("adds up to the whole, and so do the rounded halves", () => {
    const value = fc.double({ min: -100, max: 100, noNaN: true });
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 6 }), fc.integer({ min: 1, max: 4 }), (column, count) => {
        const given = group(column);
        const columns = columnsOf(given, 1, [1], splitLargest(given, 1, [1], { ...aware, count }));
        for (const [row, whole] of column.entries()) {
          const pieces = columns.map((piece) => piece[row]);
          expect(pieces.reduce((sum, piece) => sum + piece, 0)).toBeCloseTo(whole, 9);
          // Hermite's identity is about a single split; further ones keep half a step at most.
          const rounded = pieces.reduce((sum, piece) => sum + roundHalfEven(piece), 0);
          if (count === 1) expect(Math.abs(rounded - whole)).toBeLessThanOrEqual(0.5 + 1e-9);
        }
      }),
      { seed: 1 },
    );
  });
});

describe("columns of a weight", () => {
  it.each([
    { shape: [4, 3, 2, 2], layout: { rowAxis: 0, inputAxis: 1, groups: 2 } },
    { shape: [3, 5], layout: { rowAxis: 1, inputAxis: 0, groups: 1 } },
    { shape: [2, 6, 3], layout: { rowAxis: 1, inputAxis: 2, groups: 1 } },
    { shape: [2, 3, 4], layout: { rowAxis: 2, inputAxis: 1, groups: 1 } },
  ])("come back in the same order: $shape", ({ shape, layout }) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const tensor = float32Tensor(
      shape,
      Float32Array.from({ length: count }, (_, i) => i),
    );
    expect(float32Values(fromColumns(toColumns(tensor, layout), tensor, layout))).toEqual(float32Values(tensor));
  });

  it("hold the rows of their group", () => {
    const tensor = float32Tensor([4, 2], [0, 1, 2, 3, 4, 5, 6, 7]);
    const { groups } = toColumns(tensor, { rowAxis: 0, inputAxis: 1, groups: 2 });
    expect(groups.map(({ columns }) => columns.map((column) => [...column]))).toEqual([
      [
        [0, 2],
        [1, 3],
      ],
      [
        [4, 6],
        [5, 7],
      ],
    ]);
  });

  it("scale each row by its own scale when they are split", () => {
    const weight = toColumns(float32Tensor([2, 1], [8, 8]), { rowAxis: 0, inputAxis: 1, groups: 2 });
    const pieces = weight.groups.map((own) => splitLargest(own, 1, [1, 2], aware));
    expect(splitWeight(weight, [1, 2], pieces).groups.map(({ columns }) => columns.map(([value]) => value))).toEqual([
      [3.75, 4.25],
      [3.5, 4.5],
    ]);
  });
});
