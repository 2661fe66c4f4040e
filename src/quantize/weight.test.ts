import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fakeQuantize, nearest } from "../../test/fake-quantize.js";
import { float32Tensor, float32Values } from "../tensor/tensor.js";
import type { Bits, Granularity, WeightFormat } from "./format.js";
import { dequantizeRows, type QuantizedRows, roundToNearest } from "./weight.js";
import { codeLimits } from "./weight-grid.js";

const perChannel: Granularity = { kind: "per-channel" };

function format(bits: Bits, symmetric: boolean, granularity = perChannel): WeightFormat {
  return { bits, symmetric, granularity };
}

const formats = fc.record({
  bits: fc.constantFrom<Bits>(2, 3, 4, 5, 6, 7, 8),
  symmetric: fc.boolean(),
  granularity: fc.oneof(
    fc.constant<Granularity>({ kind: "per-tensor" }),
    fc.constant(perChannel),
    fc.integer({ min: 1, max: 9 }).map((groupSize): Granularity => ({ kind: "per-group", groupSize })),
  ),
});

/** Quarters hit ties and zeros, which arbitrary floats never do. */
const weights = fc.oneof(
  fc.float({ min: -8, max: 8, noNaN: true }),
  fc.integer({ min: -16, max: 16 }).map((quarters) => quarters / 4),
);

const matrices = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 11 }))
  .chain(([rowCount, columns]) =>
    fc.record({
      rowCount: fc.constant(rowCount),
      rows: fc
        .array(weights, { minLength: rowCount * columns, maxLength: rowCount * columns })
        .map((values) => Float32Array.from(values)),
    }),
  );

/** Which scale an element has. */
function groupOf({ codes, scales, groupSize }: QuantizedRows, rowCount: number, element: number): number {
  if (scales.length === 1) return 0;
  const columns = codes.length / rowCount;
  return (Math.floor(element / columns) * scales.length) / rowCount + Math.floor((element % columns) / groupSize);
}

describe("roundToNearest", () => {
  it("rounds on a symmetric grid, ties to even", () => {
    const { codes, scales, zeroPoints } = roundToNearest(Float32Array.of(-7, 3.5, 2.5, 0.25), 1, format(4, true));
    expect([[...codes], [...scales], [...zeroPoints]]).toEqual([[-7, 4, 2, 0], [1], [0]]);
  });

  it("rounds on an asymmetric grid that uses all codes", () => {
    const { codes, scales, zeroPoints } = roundToNearest(Float32Array.of(-1, 2, 0.25, 1.5), 1, format(2, false));
    expect([[...codes], [...scales], [...zeroPoints]]).toEqual([[-2, 1, -1, 1], [1], [-1]]);
  });

  it("takes the range that the estimator finds for each row", () => {
    const row = Array.from({ length: 200 }, (_, i) => Math.sin(i));
    const rows = Float32Array.from([...row, 8, ...row, 1]);
    const mse: WeightFormat = { ...format(4, true), range: "mse" };
    const [plain, chosen] = [format(4, true), mse].map((given) => roundToNearest(rows, 2, given));
    expect(chosen.scales[0]).toBeLessThan(0.9 * plain.scales[0]);
    expect(chosen.scales[1]).toBeGreaterThan(plain.scales[1] / 2);
    const errors = [plain, chosen].map((quantized) =>
      dequantizeRows(quantized, 2).reduce((sum, value, i) => sum + (value - rows[i]) ** 2, 0),
    );
    expect(errors[1]).toBeLessThan(errors[0]);
  });

  it("looks at every few values of a large table, and at all its extremes", () => {
    const rows = Float32Array.from({ length: 2 ** 21 }, (_, i) => Math.sin(i));
    rows[12_345] = 3;
    const given = (range: string): WeightFormat => ({ ...format(8, true, { kind: "per-tensor" }), range });
    expect(roundToNearest(rows, 2 ** 11, given("minmax")).scales[0]).toBeCloseTo(3 / 127, 6);
    expect(roundToNearest(rows, 2 ** 11, given("mse")).scales[0]).toBeCloseTo(1 / 127, 3);
  });

  it("gives the last group what is left of a row", () => {
    const rows = Float32Array.of(1, -7, 3, 14, 5, 21, 7, 8, 28, 10);
    const { codes, scales, groupSize } = roundToNearest(rows, 2, format(4, true, { kind: "per-group", groupSize: 3 }));
    expect([...scales]).toEqual([1, 2, 3, 4]);
    expect([...codes]).toEqual([1, -7, 3, 7, 2, 7, 2, 3, 7, 2]);
    expect(groupSize).toBe(3);
  });

  it("is one group where a group is longer than a row", () => {
    const { scales, groupSize } = roundToNearest(
      new Float32Array(6),
      2,
      format(4, true, { kind: "per-group", groupSize: 64 }),
    );
    expect([scales.length, groupSize]).toEqual([2, 3]);
  });

  it.each([2, 3, 8] as const)("holds rows on one side of zero, with zero a code, at %i bits", (bits) => {
    const { low, high } = codeLimits(format(bits, false));
    const { codes, scales, zeroPoints } = roundToNearest(Float32Array.of(1, 3, -1, -3, 0, 0), 3, format(bits, false));
    expect([...zeroPoints.subarray(0, 2)]).toEqual([low, high]);
    expect([codes[1], codes[3]]).toEqual([high, low]);
    expect([scales[2], codes[4], codes[5]]).toEqual([1, zeroPoints[2], zeroPoints[2]]);
  });

  it.each([true, false])("makes zeros of weights too small to divide by, symmetric %s", (symmetric) => {
    const quantized = roundToNearest(Float32Array.of(1e-45, -1e-40, 1e-38), 1, format(8, symmetric));
    expect([...quantized.scales]).toEqual([1]);
    expect(dequantizeRows(quantized, 1).map(Math.abs)).toEqual(new Float32Array(3));
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("refuses %d", (bad) => {
    expect(() => roundToNearest(Float32Array.of(1, 2, bad), 1, format(4, true))).toThrow(
      expect.objectContaining({ code: "model/not-finite", message: expect.stringContaining("element 2") }),
    );
  });

  it("keeps scales above a bound, each row its own; one scale above all of them", () => {
    const rows = Float32Array.of(7, 7, 7, 7);
    const bounds = Float64Array.of(0.5, 2);
    expect([...roundToNearest(rows, 2, format(4, true), bounds).scales]).toEqual([1, 2]);
    expect([...roundToNearest(rows, 2, format(4, true, { kind: "per-tensor" }), bounds).scales]).toEqual([2]);
    const asymmetric = roundToNearest(Float32Array.of(-3, 12, -3, 12), 2, format(4, false), bounds);
    expect([[...asymmetric.scales], [...asymmetric.zeroPoints]]).toEqual([
      [1, 2],
      [-5, -6],
    ]);
  });

  it("gives what rounding element by element gives", () => {
    fc.assert(
      fc.property(matrices, formats, ({ rows, rowCount }, given) => {
        const quantized = roundToNearest(rows, rowCount, given);
        const expected = fakeQuantize(float32Tensor([rowCount, rows.length / rowCount], rows), 0, given);
        expect(dequantizeRows(quantized, rowCount).map((x) => x + 0)).toEqual(
          float32Values(expected).map((x) => x + 0),
        );
      }),
      { seed: 1 },
    );
  });

  it("moves no weight by more than half a step, and uses no code beyond the limits", () => {
    fc.assert(
      fc.property(matrices, formats, ({ rows, rowCount }, given) => {
        const quantized = roundToNearest(rows, rowCount, given);
        const restored = dequantizeRows(quantized, rowCount);
        const { low, high } = codeLimits(given);
        for (const [i, weight] of rows.entries()) {
          const scale = quantized.scales[groupOf(quantized, rowCount, i)];
          expect(Math.abs(weight - restored[i])).toBeLessThanOrEqual(scale * 0.50001);
          expect(quantized.codes[i]).toBeGreaterThanOrEqual(low);
          expect(quantized.codes[i]).toBeLessThanOrEqual(high);
        }
      }),
      { seed: 1 },
    );
  });

  it("changes nothing when what is on the grid already is rounded to it again", () => {
    fc.assert(
      fc.property(matrices, formats, ({ rows, rowCount }, given) => {
        const quantized = roundToNearest(rows, rowCount, given);
        const { scales, zeroPoints } = quantized;
        const again = dequantizeRows(quantized, rowCount).map((restored, i) => {
          const group = groupOf(quantized, rowCount, i);
          return nearest(restored / scales[group]) + zeroPoints[group];
        });
        expect([...again]).toEqual([...quantized.codes]);
        if (given.symmetric) {
          expect(roundToNearest(dequantizeRows(quantized, rowCount), rowCount, given).codes).toEqual(quantized.codes);
        }
      }),
      { seed: 1 },
    );
  });
});
