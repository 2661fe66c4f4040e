import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import { encodeNpy } from "../data/npy.js";
import { makeNode } from "../graph/node.js";
import { writeModelFile } from "./model-file.js";
import { preflight } from "./preflight.js";
import { quantize } from "./quantize.js";

let folder: string;
const at = (name: string) => join(folder, name);
const options = () => ({ data: at("x.npy"), threads: 1, weights: 4, samples: 64 });
/** Folders of engines. */
const temporary = () => readdirSync(tmpdir()).filter((name) => /^recoup-\w{6}$/.test(name));

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-preflight-"));
  writeFileSync(at("x.npy"), encodeNpy(someFloats([64, 16])));
  // Batches of one: the size is declared.
  const { model } = makeTestModel({
    feeds: { x: someFloats([1, 16]) },
    nodes: [
      makeNode("MatMul", ["x", "w0"], ["a0"]),
      makeNode("Relu", ["a0"], ["r0"]),
      makeNode("MatMul", ["r0", "w1"], ["a1"]),
      makeNode("Relu", ["a1"], ["r1"]),
      makeNode("MatMul", ["r1", "w2"], ["y"]),
    ],
    outputs: ["y"],
    initializers: {
      w0: someFloats([16, 64], 2),
      w1: someFloats([64, 64], 3),
      w2: someFloats([64, 64], 4),
    },
  });
  writeModelFile(at("m.onnx"), model);
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("preflight", () => {
  it.each([
    ["rounding to nearest", {}, []],
    ["bias compensation", { steps: ["bc:keep=all"] }, ["refine"]],
    ["GPTQ", { rounding: "gptq", target: "float" }, ["refine"]],
    ["GPTQ with trials", { rounding: "gptq" }, ["refine", "try"]],
  ] as const)("tells what a run with %s does", async (_about, settings, more) => {
    const before = readdirSync(folder);
    const found = await preflight(at("m.onnx"), { ...options(), ...settings });
    const { report, cost, elapsedMs } = await quantize(at("m.onnx"), { ...options(), ...settings });
    expect(found).toMatchObject({
      samples: 64,
      samplesRun: 8,
      blocks: report.blocks,
      layers: 3,
      skipped: 0,
      sourceBytes: cost.sourceBytes,
      warnings: report.warnings,
    });
    // But for the names of what the trials decide on, which stand in the metadata.
    expect(Math.abs(found.bytes - cost.bytes)).toBeLessThan(20);
    expect(found.sizeRatio).toBe(found.bytes / found.sourceBytes);
    // Both models for the last measurement, or two networks with what looks at their values; no activations.
    expect(found.diskBytes).toBeGreaterThanOrEqual(found.sourceBytes + found.bytes);
    expect(found.diskBytes).toBeLessThan(3 * found.sourceBytes);
    expect(Object.keys(found.elapsedMs).sort()).toEqual(Object.keys(elapsedMs).sort());
    expect(Object.keys(elapsedMs).sort()).toEqual(
      ["calibrate", "check", "clean", "measure", "quantize", ...more].sort(),
    );
    for (const ms of Object.values(found.elapsedMs)) expect(ms).toBeGreaterThan(0);
    const networks = report.trials.reduce((sum, { held }) => sum + held / 32, 0);
    expect(found.trials.fewest).toBeLessThanOrEqual(networks);
    expect(found.trials.most).toBeGreaterThanOrEqual(networks);
    if (process.platform === "linux") expect(found.memoryBytes).toBeGreaterThan(1e8);
    expect(readdirSync(folder)).toEqual(before);
  });

  it("runs no more samples than there are", async () => {
    expect(await preflight(at("m.onnx"), { ...options(), samples: 5 })).toMatchObject({ samples: 5, samplesRun: 5 });
  });

  it("tells what does not fit in memory", async () => {
    const found = await preflight(at("m.onnx"), { ...options(), steps: ["bc"], memory: 10_000 });
    // 64 samples of 64 floats, of both networks.
    expect(found.diskBytes).toBeGreaterThanOrEqual(2 * 64 * 64 * 4 - 10_000);
    expect(found.diskBytes).toBeLessThan(3 * found.sourceBytes + 6 * 64 * 64 * 4);
  });

  it("refuses what a run refuses, and leaves nothing behind when it is cancelled", async () => {
    const output = join(at("m.onnx"), "x.onnx");
    await expect(preflight(at("m.onnx"), { ...options(), output })).rejects.toMatchObject({ code: "file/unwritable" });
    const before = temporary();
    const controller = new AbortController();
    const onProgress = () => controller.abort();
    const cancelled = preflight(at("m.onnx"), { ...options(), signal: controller.signal, onProgress });
    await expect(cancelled).rejects.toMatchObject({ code: "engine/cancelled" });
    expect(temporary().filter((name) => !before.includes(name))).toEqual([]);
  });
});
