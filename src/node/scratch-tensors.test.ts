import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { someFloats } from "../../test/models.js";
import { ScratchTensors } from "./scratch-tensors.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-test-"));
  vi.stubEnv("TMPDIR", folder);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

describe("ScratchTensors", () => {
  it("gives back what was kept, in memory and in the file, which has no name", () => {
    const tensors = [someFloats([2000], 1), someFloats([3000], 2), someFloats([30, 100], 3), someFloats([10], 4)];
    const store = new ScratchTensors(10_000);
    const kept = tensors.map((tensor) => store.keep(tensor));
    expect(kept.map((tensor, i) => tensor === tensors[i])).toEqual([true, false, false, true]);
    expect(kept.map(({ type, shape, sizeBytes }) => ({ type, shape, sizeBytes }))).toEqual(
      tensors.map(({ type, shape, sizeBytes }) => ({ type, shape, sizeBytes })),
    );
    for (const [i, tensor] of kept.entries()) {
      expect(Buffer.compare(tensor.bytes(), tensors[i].bytes())).toBe(0);
    }
    expect(readdirSync(folder)).toEqual([]);
  });

  it("says where no temporary file can be kept", () => {
    vi.stubEnv("TMPDIR", join(folder, "missing"));
    const keep = () => new ScratchTensors(0).keep(someFloats([2000]));
    expect(keep).toThrow(
      expect.objectContaining({
        code: "engine/unavailable",
        message: expect.stringContaining("(ENOENT)"),
        place: { file: join(folder, "missing") },
      }),
    );
  });
});
