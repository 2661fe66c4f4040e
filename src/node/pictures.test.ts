import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodePictureFile } from "./pictures.js";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-pictures-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(content: Uint8Array | string): string {
  const path = join(folder, "picture");
  writeFileSync(path, content);
  return path;
}

async function pixelsOf(content: Uint8Array): Promise<number[]> {
  const { pixels, channels } = await decodePictureFile(write(content));
  expect(channels).toBe(3);
  return [...pixels];
}

/** A picture one pixel high. */
function row(pixels: readonly number[], channels: 1 | 3 | 4) {
  return sharp(Uint8Array.from(pixels), { raw: { width: pixels.length / channels, height: 1, channels } });
}

describe("decodePictureFile", () => {
  it("gives the size and the pixels", async () => {
    const path = write(await row([1, 2, 3, 4, 5, 6], 3).png().toBuffer());
    expect(await decodePictureFile(path)).toMatchObject({ width: 2, height: 1, channels: 3 });
    expect(await pixelsOf(await row([1, 2, 3, 4, 5, 6], 3).png().toBuffer())).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("reads WebP", async () => {
    expect(await pixelsOf(await row([10, 20, 30], 3).webp({ lossless: true }).toBuffer())).toEqual([10, 20, 30]);
  });

  it("drops alpha and keeps the color below it", async () => {
    const png = await row([10, 20, 30, 0, 40, 50, 60, 128], 4).png().toBuffer();
    expect(await pixelsOf(png)).toEqual([10, 20, 30, 40, 50, 60]);
  });

  it("makes grey a color", async () => {
    const png = await row([10, 200], 1).toColourspace("b-w").png().toBuffer();
    expect((await sharp(png).metadata()).channels).toBe(1);
    expect(await pixelsOf(png)).toEqual([10, 10, 10, 200, 200, 200]);
  });

  it("takes the upper byte of 16 bits", async () => {
    const wide = sharp(Uint16Array.from([0x1234, 0x56ff, 0xffff]), { raw: { width: 1, height: 1, channels: 3 } });
    const png = await wide.toColourspace("rgb16").png().toBuffer();
    expect((await sharp(png).metadata()).depth).toBe("ushort");
    expect(await pixelsOf(png)).toEqual([0x12, 0x56, 0xff]);
  });

  it("does not turn a picture as a camera's remark says", async () => {
    const png = await row([255, 255, 255, 0, 0, 0], 3).withMetadata({ orientation: 6 }).png().toBuffer();
    expect((await sharp(png).metadata()).orientation).toBe(6);
    expect(await decodePictureFile(write(png))).toMatchObject({ width: 2, height: 1 });
  });

  it("mixes the inks of a CMYK picture", async () => {
    const white = sharp({ create: { width: 8, height: 8, channels: 3, background: "white" } });
    const jpeg = await white.toColourspace("cmyk").jpeg().toBuffer();
    expect((await sharp(jpeg).metadata()).channels).toBe(4);
    expect(Math.min(...(await pixelsOf(jpeg)))).toBeGreaterThan(250);
  });

  it.each<[string, () => Promise<Uint8Array | string>]>([
    ["a format that it does not read", async () => "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"],
    ["a TIFF", () => row([1, 2, 3], 3).tiff().toBuffer()],
    ["an empty file", async () => ""],
    ["a picture that is cut short", async () => (await row([1, 2, 3], 3).jpeg().toBuffer()).subarray(0, -20)],
    ["a damaged picture", async () => (await row([1, 2, 3], 3).png().toBuffer()).map((byte, i) => (i > 40 ? 0 : byte))],
  ])("refuses %s and names it", async (_, content) => {
    const path = write(await content());
    await expect(decodePictureFile(path)).rejects.toMatchObject({ code: "data/unreadable", place: { file: path } });
  });

  it("refuses a picture that promises more pixels than anybody can hold", async () => {
    const png = await row([1, 2, 3], 3).png().toBuffer();
    // Width and height stand after the 16 bytes of signature and chunk head; the checksum over them is redone.
    png.writeUInt32BE(100000, 16);
    png.writeUInt32BE(100000, 20);
    png.writeUInt32BE(crc32(png.subarray(12, 29)), 29);
    await expect(decodePictureFile(write(png))).rejects.toMatchObject({
      code: "data/unreadable",
      message: expect.stringContaining("pixel limit"),
    });
  });

  it("names a file that is not there", async () => {
    await expect(decodePictureFile(join(folder, "nowhere"))).rejects.toMatchObject({ code: "data/unreadable" });
  });
});

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}
