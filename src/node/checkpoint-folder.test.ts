import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { someFloats } from "../../test/models.js";
import { makeResidualNet } from "../../test/networks.js";
import { encodeNpy } from "../data/npy.js";
import { checkpointFolder } from "./checkpoint-folder.js";
import { writeModelFile } from "./model-file.js";
import { quantize } from "./quantize.js";

let folder: string;
const at = (...parts: readonly string[]) => join(folder, ...parts);
const bytes = Uint8Array.of(1, 2, 3);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-checkpoint-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("checkpointFolder", () => {
  it("keeps pieces in a folder of their own, which goes with them", async () => {
    const store = checkpointFolder(at("a"));
    expect(await store.list()).toEqual([]);
    await store.clear();
    expect(existsSync(at("a"))).toBe(false);
    await store.write("block-0001", bytes);
    await store.write("block-0001", Uint8Array.of(4));
    await store.write("run", bytes);
    expect([...(await store.list())].sort()).toEqual(["block-0001", "run"]);
    expect(readdirSync(at("a")).sort()).toEqual(["block-0001.recoup", "run.recoup"]);
    expect([...(await store.read("block-0001"))]).toEqual([4]);
    await store.clear();
    expect(existsSync(at("a"))).toBe(false);
  });

  it("removes what a killed process has left half written, and nothing of others", async () => {
    const store = checkpointFolder(at("b"));
    await store.write("run", bytes);
    writeFileSync(at("b", ".recoup-0-0123abcd.tmp"), bytes);
    writeFileSync(at("b", "notes.txt"), "mine");
    mkdirSync(at("b", "more"));
    expect(await store.list()).toEqual(["run"]);
    await store.clear();
    expect(readdirSync(at("b")).sort()).toEqual(["more", "notes.txt"]);
  });

  it("refuses what cannot be", async () => {
    writeFileSync(at("file"), "");
    const inFile = checkpointFolder(at("file"));
    await expect(inFile.list()).rejects.toMatchObject({ code: "file/unreadable", place: { file: at("file") } });
    await expect(inFile.write("run", bytes)).rejects.toMatchObject({ code: "file/unwritable" });
    await expect(checkpointFolder(at("no", "folder")).write("run", bytes)).rejects.toMatchObject({
      code: "file/unwritable",
    });
    await expect(checkpointFolder(at("none")).read("run")).rejects.toMatchObject({ code: "file/not-found" });
    mkdirSync(at("c", "run.recoup"), { recursive: true });
    await expect(checkpointFolder(at("c")).clear()).rejects.toMatchObject({ code: "file/unwritable" });
  });
});

describe("quantize with a checkpoint", () => {
  const options = () => ({ data: at("x.npy"), threads: 1, weights: 3, steps: ["bc"] });

  beforeAll(() => {
    const { model, feeds } = makeResidualNet(1);
    const [{ shape }] = feeds.values();
    writeModelFile(at("m.onnx"), model);
    writeFileSync(at("x.npy"), encodeNpy(someFloats([4, ...shape.slice(1)])));
  });

  it("keeps blocks until the model is written", async () => {
    const seen: (readonly [blocks: number, files: number])[] = [];
    const onCheckpoint = (blocks: number) => seen.push([blocks, readdirSync(at("kept")).length]);
    const { report } = await quantize(at("m.onnx"), { ...options(), checkpoint: at("kept"), onCheckpoint });
    // Besides the blocks there are the ranges and the description of the run.
    expect(seen).toEqual(seen.map((_, i) => [i + 1, i + 3]));
    expect(seen.length).toBe(report.blocks);
    expect(report.warnings).toEqual([]);
    expect(existsSync(at("kept"))).toBe(false);
  });

  it("goes on all the same where nothing can be kept", async () => {
    await quantize(at("m.onnx"), { ...options(), output: at("plain.onnx") });
    const { report } = await quantize(at("m.onnx"), {
      ...options(),
      output: at("unkept.onnx"),
      checkpoint: at("no", "folder"),
    });
    expect(report.warnings).toEqual([expect.stringMatching(/no\/folder: cannot be written \(ENOENT\): /)]);
    expect(readFileSync(at("unkept.onnx")).equals(readFileSync(at("plain.onnx")))).toBe(true);
  });

  it("refuses a folder that is the output, and to resume from nowhere", async () => {
    const both = { output: at("small.onnx"), checkpoint: `${folder}/./small.onnx` };
    for (const wrong of [both, { resume: true }]) {
      await expect(quantize(at("m.onnx"), { ...options(), ...wrong })).rejects.toMatchObject({
        code: "usage/argument",
      });
    }
  });
});
