import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type PackedPlane, packCodes, packConsecutive, packedMultiple } from "./pack.js";
import { integerValues, tensorFromBytes } from "./tensor.js";

const coded = fc
  .integer({ min: 2, max: 7 })
  .chain((bits) => fc.tuple(fc.constant(bits), fc.array(fc.nat(2 ** bits - 1), { maxLength: 100 })));

/** What the operators in a model compute. */
function unpackCodes(planes: readonly PackedPlane[], count: number): readonly number[] {
  return Array.from({ length: count }, (_, i) =>
    planes.reduce((code, { width, shift, bytes }) => {
      const position = width * Math.floor(i / bytes.length);
      return code + (((bytes[i % bytes.length] >> position) % 2 ** width) << shift);
    }, 0),
  );
}

describe("packCodes", () => {
  it("puts code i of segment s into byte i, and adds up planes for widths that are no power of two", () => {
    // Eight codes of 3 bits: segments of two bytes in the plane of the low two bits, of one byte in the plane of the third.
    const planes = packCodes(Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7), 3);
    expect(planes).toEqual([
      { width: 2, shift: 0, bytes: Uint8Array.of(0b10_00_10_00, 0b11_01_11_01) },
      { width: 1, shift: 2, bytes: Uint8Array.of(0b11110000) },
    ]);
  });

  it.each([
    [2, [2]],
    [3, [2, 1]],
    [4, [4]],
    [5, [4, 1]],
    [6, [4, 2]],
    [7, [4, 2, 1]],
  ])("cuts %d bits into planes of %j bits", (bits, widths) => {
    const planes = packCodes(new Uint8Array(16), bits);
    expect(planes.map((plane) => plane.width)).toEqual(widths);
    expect(planes.reduce((sum, plane) => sum + plane.bytes.length, 0)).toBe(2 * bits);
  });

  it("is undone by shifts and remainders, whatever the length, and wastes less than a padded run", () => {
    fc.assert(
      fc.property(coded, ([bits, codes]) => {
        const planes = packCodes(Uint8Array.from(codes), bits);
        expect(unpackCodes(planes, codes.length)).toEqual(codes);
        const stored = planes.reduce((sum, plane) => sum + plane.bytes.length, 0);
        expect(stored - (codes.length * bits) / 8).toBeLessThan((packedMultiple * bits) / 8);
      }),
      { seed: 1 },
    );
  });
});

describe("packConsecutive", () => {
  it("packs as ONNX does: the first code lowest, negative codes in two's complement", () => {
    expect([...packConsecutive([1, -1, 7], 4)]).toEqual([0xf1, 0x07]);
    expect([...packConsecutive([1, -1, -2, 0, 1], 2)]).toEqual([0b00_10_11_01, 0b01]);
  });

  it("is undone by reading the tensor", () => {
    const signed = fc
      .constantFrom(4 as const, 2 as const)
      .chain((bits) =>
        fc.tuple(fc.constant(bits), fc.array(fc.integer({ min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 }))),
      );
    fc.assert(
      fc.property(signed, ([bits, codes]) => {
        const tensor = tensorFromBytes(bits === 4 ? "int4" : "int2", [codes.length], packConsecutive(codes, bits));
        expect(integerValues(tensor)).toEqual(codes);
      }),
      { seed: 1 },
    );
  });
});
