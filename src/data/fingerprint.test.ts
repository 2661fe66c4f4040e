import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { fingerprintOf } from "./fingerprint.js";

describe("fingerprintOf", () => {
  it("is the SHA-256 of the parts' SHA-256", async () => {
    const digests = ["abc", ""].map((part) => createHash("sha256").update(part).digest());
    const expected = createHash("sha256").update(Buffer.concat(digests)).digest("hex");
    expect(await fingerprintOf(["abc", new Uint8Array()])).toBe(expected);
  });

  it("minds where parts end, and their order", async () => {
    const prints = [["ab", "c"], ["a", "bc"], ["c", "ab"], ["abc"], []].map(fingerprintOf);
    expect(new Set(await Promise.all(prints)).size).toBe(5);
  });
});
