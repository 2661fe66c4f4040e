import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Picture, pictureFromInks, withChannels } from "./picture.js";
import type { Filter } from "./preprocess.js";
import { resamplePicture } from "./resample.js";

const filters: readonly Filter[] = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"];

/** A picture whose pixels are a fixed pattern. */
function pattern(width: number, height: number, channels: 1 | 3): Picture {
  const pixels = Uint8Array.from({ length: width * height * channels }, (_, i) => (i * 37 + i * i * 11) % 256);
  return { width, height, channels, pixels };
}

function resize(picture: Picture, width: number, height: number, filter: Filter): number[] {
  return [...resamplePicture(picture, { width, height }, filter).pixels];
}

describe("resamplePicture", () => {
  it("averages pairs where a box halves a row", () => {
    const row: Picture = { width: 4, height: 1, channels: 1, pixels: Uint8Array.of(10, 20, 30, 50) };
    expect(resize(row, 2, 1, "box")).toEqual([15, 40]);
  });

  it("repeats pixels where the nearest double a row", () => {
    const row: Picture = { width: 2, height: 1, channels: 1, pixels: Uint8Array.of(10, 20) };
    expect(resize(row, 4, 1, "nearest")).toEqual([10, 10, 20, 20]);
  });

  // Pillow 12.3.0: Image.fromarray(pattern 5×4).resize((3, 2), filter)
  it.each<[Filter, number[]]>([
    ["nearest", [214, 80, 224, 252, 250, 14, 58, 188, 84, 132, 146, 182, 34, 180, 92, 216, 238, 26]],
    ["lanczos", [121, 74, 143, 185, 122, 137, 151, 130, 143, 134, 138, 168, 152, 131, 114, 161, 204, 102]],
    ["bilinear", [125, 81, 149, 173, 121, 137, 153, 134, 137, 129, 134, 167, 152, 135, 120, 167, 191, 107]],
    ["bicubic", [124, 75, 146, 179, 122, 137, 150, 131, 140, 129, 138, 169, 151, 132, 118, 168, 198, 103]],
    ["box", [140, 66, 142, 179, 140, 123, 138, 134, 152, 130, 140, 172, 131, 112, 115, 180, 196, 106]],
    ["hamming", [129, 70, 149, 172, 129, 133, 143, 129, 137, 117, 145, 171, 144, 125, 122, 184, 196, 101]],
  ])("shrinks as PIL does: %s", (filter, expected) => {
    expect(resize(pattern(5, 4, 3), 3, 2, filter)).toEqual(expected);
  });

  // Pillow 12.3.0: the first two rows of resize((2, 6), filter)
  it.each<[Filter, number[]]>([
    ["nearest", [210, 68, 204, 200, 190, 202, 134, 66, 20, 56, 120, 206]],
    ["lanczos", [97, 54, 196, 214, 89, 191, 155, 80, 138, 138, 141, 150]],
    ["bilinear", [119, 59, 183, 191, 99, 181, 151, 87, 138, 148, 134, 148]],
    ["bicubic", [106, 53, 190, 203, 94, 186, 153, 82, 137, 144, 137, 149]],
    ["hamming", [120, 55, 179, 196, 109, 177, 151, 79, 135, 144, 137, 154]],
  ])("stretches as PIL does: %s", (filter, expected) => {
    expect(resize(pattern(5, 4, 3), 2, 6, filter).slice(0, 12)).toEqual(expected);
  });

  it("resizes grey as it resizes each color, and leaves an even picture even", () => {
    const sizes = fc.integer({ min: 1, max: 12 });
    fc.assert(
      fc.property(sizes, sizes, sizes, sizes, fc.constantFrom(...filters), fc.nat(255), (w, h, W, H, filter, value) => {
        const grey = pattern(w, h, 1);
        const color = resamplePicture(withChannels(grey, 3), { width: W, height: H }, filter);
        expect(withChannels(color, 1).pixels).toEqual(resamplePicture(grey, { width: W, height: H }, filter).pixels);
        const even: Picture = { ...grey, pixels: grey.pixels.map(() => value) };
        expect(resize(even, W, H, filter).every((pixel) => pixel === value)).toBe(true);
      }),
    );
  });
});

describe("withChannels", () => {
  it("weighs colors as PIL's mode L does", () => {
    const primaries = Uint8Array.of(255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255);
    expect([...withChannels({ width: 4, height: 1, channels: 3, pixels: primaries }, 1).pixels]).toEqual([
      76, 150, 29, 255,
    ]);
  });
});

describe("pictureFromInks", () => {
  it("mixes inks as PIL does", () => {
    // Pillow 12.3.0: Image.frombytes("CMYK", …).convert("RGB")
    const inks = Uint8Array.of(0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 255, 100, 50, 200, 30);
    expect([...pictureFromInks({ width: 4, height: 1 }, inks).pixels]).toEqual([
      255, 255, 255, 0, 255, 255, 0, 0, 0, 137, 181, 49,
    ]);
  });
});
