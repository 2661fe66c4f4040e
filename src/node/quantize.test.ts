import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import { encodeNpy } from "../data/npy.js";
import { RecoupError } from "../errors.js";
import { makeNode } from "../graph/node.js";
import { float32Tensor } from "../tensor/tensor.js";
import { readModelFile, writeModelFile } from "./model-file.js";
import { quantize } from "./quantize.js";

let folder: string;
const at = (name: string) => join(folder, name);
const options = () => ({ data: at("x.npy"), threads: 1, weights: 4 });

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-quantize-"));
  writeFileSync(at("x.npy"), encodeNpy(someFloats([4, 16])));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("quantize", () => {
  it("knows the size of a model that it does not write", async () => {
    const { model } = makeTestModel({
      feeds: { x: someFloats([1, 16]) },
      nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
      outputs: ["y"],
      initializers: { w: someFloats([16, 64], 2) },
    });
    writeModelFile(at("m.onnx"), model);
    const { cost } = await quantize(at("m.onnx"), options());
    const written = await quantize(at("m.onnx"), { ...options(), output: at("small.onnx") });
    expect(cost.bytes).toBe(statSync(at("small.onnx")).size);
    expect(cost.sizeRatio).toBe(written.cost.sizeRatio);
    expect(written.report.warnings).toEqual([]);
  });

  it("warns of outputs that lost their numbers", async () => {
    // The logarithm of what is just above zero, until it is rounded.
    const { model } = makeTestModel({
      feeds: { x: someFloats([1, 16]) },
      nodes: [
        makeNode("MatMul", ["x", "w"], ["z"]),
        makeNode("Abs", ["z"], ["a"]),
        makeNode("Mul", ["a", "small"], ["s"]),
        makeNode("MatMul", ["s", "one"], ["p"]),
        makeNode("Log", ["p"], ["y"]),
      ],
      outputs: ["y"],
      initializers: {
        w: float32Tensor(
          [16, 2],
          [...Array(16)].flatMap((_, i) => [i === 0 ? 100 : 0, i === 1 ? 1e-4 : 0]),
        ),
        small: float32Tensor([1], [1e-3]),
        one: float32Tensor([2, 2], [1, 0, 0, 1]),
      },
    });
    writeModelFile(at("log.onnx"), model);
    const { cost, report } = await quantize(at("log.onnx"), options());
    expect(cost.output?.sqnrDb).toBe(Number.NEGATIVE_INFINITY);
    expect(report.warnings).toEqual([expect.stringContaining("NaN or infinity")]);
  });

  it("runs nothing where that is asked for, and says so", async () => {
    const { cost, report } = await quantize(at("m.onnx"), { ...options(), check: false });
    expect(report.warnings).toEqual(["the small model was not run: as was asked for"]);
    expect(cost).toMatchObject({ sizeRatio: expect.any(Number) });
    expect(cost.output ?? cost.latency).toBeUndefined();
  });

  it("does not run what there is no memory for", async () => {
    vi.spyOn(process, "availableMemory").mockReturnValue(1000);
    const { report } = await quantize(at("m.onnx"), options());
    vi.restoreAllMocks();
    expect(report.warnings).toEqual([expect.stringContaining("was not run: beside the original it would take")]);
  });

  it("puts tensors beside the model where that is asked for", async () => {
    const output = at("beside.onnx");
    await quantize(at("m.onnx"), { ...options(), weights: 8, output, externalData: true });
    await quantize(at("m.onnx"), { ...options(), weights: 8, output: at("inside.onnx") });
    expect(existsSync(at("inside.onnx.data"))).toBe(false);
    const codesOf = (path: string) => readModelFile(path).graph.constant("w_quantized")?.bytes();
    expect(codesOf(output)).toEqual(codesOf(at("inside.onnx")));
    expect(statSync(`${output}.data`).size).toBeGreaterThanOrEqual(16 * 64);
  });

  it("puts tensors beside the model where those of the original stand there, unless somebody says otherwise", async () => {
    writeModelFile(at("apart.onnx"), readModelFile(at("m.onnx")), { inlineLimit: 0 });
    const to = (name: string) => ({ ...options(), weights: 8, check: false, output: at(name) });
    await quantize(at("apart.onnx"), to("model.onnx"));
    await quantize(at("apart.onnx"), { ...to("whole.onnx"), externalData: false });
    expect([existsSync(at("model.onnx.data")), existsSync(at("whole.onnx.data"))]).toEqual([true, false]);
    const { cost } = await quantize(at("apart.onnx"), { ...to(""), output: undefined });
    expect(cost.bytes).toBe(statSync(at("model.onnx")).size + statSync(at("model.onnx.data")).size);
  });

  it("breaks off where it is asked to while weights are rounded", async () => {
    const cancel = new AbortController();
    const onProgress = (phase: string) => {
      if (phase === "quantize") cancel.abort();
    };
    const output = at("broken.onnx");
    const run = quantize(at("m.onnx"), { ...options(), output, signal: cancel.signal, onProgress });
    await expect(run).rejects.toMatchObject({ code: "engine/cancelled" });
    expect(readdirSync(folder).filter((name) => name.startsWith("broken") || name.startsWith(".recoup"))).toEqual([]);
  });

  it("writes the model before it is held against the original, and keeps it when that breaks off", async () => {
    const output = at("first.onnx");
    const cancel = new AbortController();
    const seen: [phase: string, isThere: boolean][] = [];
    const onProgress = (phase: string) => {
      seen.push([phase, existsSync(output)]);
      if (phase === "measure") cancel.abort();
    };
    const run = quantize(at("m.onnx"), { ...options(), output, signal: cancel.signal, onProgress });
    await expect(run).rejects.toMatchObject({ code: "engine/cancelled" });
    expect(seen.every(([phase, isThere]) => isThere === (phase === "measure"))).toBe(true);
    expect(seen.at(-1)).toEqual(["measure", true]);
    await quantize(at("m.onnx"), { ...options(), output: at("whole.onnx") });
    expect(readFileSync(output).equals(readFileSync(at("whole.onnx")))).toBe(true);
  });

  it("warns where the model cannot be held against the original", async () => {
    const output = at("unmeasured.onnx");
    const onProgress = (phase: string, done: number) => {
      if (phase === "measure" && done > 0) throw new RecoupError("engine/crashed", "the process has ended");
    };
    const { report, cost } = await quantize(at("m.onnx"), { ...options(), output, onProgress });
    expect(report.warnings).toEqual(["the small model was not held against the original: the process has ended"]);
    expect(cost.latency).toBeUndefined();
    expect(existsSync(output)).toBe(true);
  });

  it("refuses an output in a folder that is a file, before any work", async () => {
    const output = join(at("m.onnx"), "x.onnx");
    let phases = 0;
    const onProgress = () => phases++;
    await expect(quantize(at("m.onnx"), { ...options(), output, onProgress })).rejects.toMatchObject({
      code: "file/unwritable",
      place: { file: output },
    });
    expect(phases).toBe(0);
  });
});
