import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeText, encodeText } from "./text.js";

describe("text of a file", () => {
  it.each<readonly [about: string, bytes: readonly number[], text: string]>([
    ["is UTF-8 where it is", [0x61, 0xc3, 0xbc, 0xf0, 0x9f, 0x99, 0x82], "aü\u{1f642}"],
    ["keeps a byte order mark", [0xef, 0xbb, 0xbf, 0x61], "\ufeffa"],
    ["keeps bytes of another encoding", [0x4d, 0xfc, 0x6e], "M\udcfcn"],
    ["keeps the start of a sequence that ends early", [0xc3], "\udcc3"],
    ["takes what is whole behind a broken sequence", [0xf0, 0x9f, 0xc3, 0xbc], "\udcf0\udc9fü"],
    ["does not take a surrogate that was encoded for one of its own", [0xed, 0xb2, 0x80], "\udced\udcb2\udc80"],
  ])("%s", (_about, bytes, text) => {
    expect(decodeText(Uint8Array.from(bytes))).toBe(text);
    expect([...encodeText(text)]).toEqual(bytes);
  });

  it("takes megabytes that are no text at all", () => {
    const bytes = Uint8Array.from({ length: 2_000_000 }, (_, i) => (i * 2_654_435_761) >>> 13);
    expect(Buffer.compare(encodeText(decodeText(bytes)), bytes)).toBe(0);
  });

  it("is what a decoder of UTF-8 makes of it, wherever that makes something of it", () => {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const mixed = fc.array(fc.oneof(fc.string({ unit: "binary", maxLength: 3 }), fc.uint8Array({ maxLength: 2 })));
    fc.assert(
      fc.property(mixed, (parts) => {
        const texts = parts.filter((part) => typeof part === "string");
        const whole = new TextEncoder().encode(texts.join(""));
        // Something that is no UTF-8 behind it makes the text go the other way.
        expect(decodeText(Uint8Array.of(...whole, 0xff))).toBe(`${decoder.decode(whole)}\udcff`);
        const bytes = parts.flatMap((part) => [...(typeof part === "string" ? new TextEncoder().encode(part) : part)]);
        expect([...encodeText(decodeText(Uint8Array.from(bytes)))]).toEqual(bytes);
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  it("is encoded as the very bytes that were read, and differs where they differ", () => {
    const nearText = fc
      .uint8Array({ maxLength: 12 })
      .chain((bytes) =>
        fc
          .string({ unit: "binary", maxLength: 6 })
          .map((text) => Uint8Array.of(...new TextEncoder().encode(text), ...bytes)),
      );
    fc.assert(
      fc.property(nearText, nearText, (a, b) => {
        expect(encodeText(decodeText(a))).toEqual(a);
        expect(decodeText(a) === decodeText(b)).toBe(Buffer.compare(a, b) === 0);
      }),
      { seed: 1, numRuns: 200 },
    );
  });
});
