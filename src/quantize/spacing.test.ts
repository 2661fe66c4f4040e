import { describe, expect, it } from "vitest";
import { codesInUse, tableOf } from "./spacing.js";

const widths = [2, 3, 4, 5, 6, 7, 8];

describe("codesInUse", () => {
  it("has two runs from zero, a fine and a coarse one", () => {
    // Steps of 255 / 7 and of a sixteenth of that.
    const coarse = [0, 36, 73, 109, 146, 182, 219, 255];
    const fine = [2, 5, 7, 9, 11, 14, 16];
    expect(codesInUse("twin", 4)).toEqual([...coarse, ...fine].sort((a, b) => a - b));
  });

  it("has powers of one ratio down to a single code", () => {
    // 255 over 1.4305, and so on, rounded.
    expect(codesInUse("log", 4)).toEqual([0, 1, 2, 3, 5, 7, 10, 15, 21, 30, 43, 61, 87, 125, 178, 255]);
  });

  it.each(widths)("uses as many codes as %i bits allow for log", (bits) => {
    const codes = codesInUse("log", bits);
    expect(new Set(codes).size).toBe(2 ** bits);
    expect([...codes]).toEqual([...codes].sort((a, b) => a - b));
    expect([codes[0], codes.at(-1)]).toEqual([0, 255]);
    // Among large codes, where rounding tells little, the ratio is the same throughout.
    const ratios = codes.flatMap((code, i) => (code > 50 && i + 1 < codes.length ? [codes[i + 1] / code] : []));
    expect(Math.max(...ratios) / Math.min(...ratios)).toBeLessThan(1.03);
  });

  it.each(widths)("stays within %i bits for twin", (bits) => {
    const codes = codesInUse("twin", bits);
    expect(new Set(codes).size).toBe(codes.length);
    expect(codes.length).toBeLessThanOrEqual(2 ** bits);
    expect(codes.length).toBeGreaterThan(2 ** (bits - 1));
    expect([codes[0], codes.at(-1)]).toEqual([0, 255]);
  });
});

describe("tableOf", () => {
  it.each(widths.flatMap((bits) => [["log", bits] as const, ["twin", bits] as const]))(
    "takes each code to the nearest in use: %s, %i bits",
    (spacing, bits) => {
      const codes = codesInUse(spacing, bits);
      for (const [code, nearest] of tableOf(codes).entries()) {
        expect(codes).toContain(nearest);
        expect(Math.abs(nearest - code)).toBe(Math.min(...codes.map((other) => Math.abs(other - code))));
      }
    },
  );

  it("takes a code between two to the lower", () => {
    expect([...tableOf([0, 2, 255]).slice(0, 3)]).toEqual([0, 0, 2]);
  });
});
