import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openMail, TensorMail } from "./runtime-mail.js";
import type { Named, SentTensor } from "./runtime-messages.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-test-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const tensor = (size: number, start: number): SentTensor => ({
  type: "uint8",
  shape: [size],
  bytes: Uint8Array.from({ length: size }, (_, i) => (start + i) % 251),
});
const held = { held: 7, type: "float32", shape: [2] } as const;
const tensors = (size: number): Named<SentTensor | typeof held> => [
  ["a", tensor(size, 1)],
  ["h", held],
  ["empty", tensor(0, 0)],
  ["b", tensor(size + 3, 9)],
];

describe("TensorMail", () => {
  it.each([
    ["in the message", 10, 0],
    ["in a file", 100_000, 1],
  ])("brings tensors over, %s", (_about, size, files) => {
    const mail = new TensorMail(folder, "test ").send(tensors(size));
    expect(readdirSync(folder).length).toBe(files);
    expect(openMail(structuredClone(mail))).toEqual(tensors(size));
    expect(readdirSync(folder)).toEqual([]);
  });

  it("keeps letters apart, in whatever order they are opened", () => {
    const mail = new TensorMail(folder, "test ");
    const [first, second] = [80_000, 90_000].map((size) => mail.send(tensors(size)));
    expect(openMail(second)).toEqual(tensors(90_000));
    expect(openMail(first)).toEqual(tensors(80_000));
  });

  it("puts tensors into the message where no file can be written", () => {
    const mail = new TensorMail(join(folder, "gone"), "test ").send(tensors(100_000));
    expect(openMail(mail)).toEqual(tensors(100_000));
  });
});
