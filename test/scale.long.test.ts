import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeNpy } from "../src/data/npy.js";
import { readModelFile, writeModelFile } from "../src/node/model-file.js";
import { manyOf, writeMatMulChain } from "./large-models.js";
import { someFloats } from "./models.js";
import { type Watched, watchMemory } from "./watch-memory.js";

const program = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "recoup-scale-"));
const at = (name: string) => join(folder, name);
const [layers, size] = [48, 4096];
const tensorMB = (4 * size * size) / 1e6;
const weightOnly = ["--weights", "8", "--activations", "none"];
/** Looking at so many is asked of the tests; to quantize them takes a test too long. */
const mostQuantized = 10_000;

function report(what: string, { seconds, ownMB, allMB, residentMB }: Watched): void {
  const memory = `${ownMB} MB, with the runtime ${allMB} MB, with pages of files ${residentMB} MB`;
  console.log(`${what}: ${seconds.toFixed(2)} s; ${memory}`);
}

afterAll(() => rmSync(folder, { recursive: true }));

describe("a model of 3 GB", () => {
  beforeAll(() => {
    writeMatMulChain(at("huge.onnx"), layers, size);
    writeFileSync(at("huge.npy"), encodeNpy(someFloats([4, size])));
  });

  it("is inspected in little memory", async () => {
    const watched = await watchMemory([program, "inspect", at("huge.onnx"), ...weightOnly]);
    report("inspect", watched);
    expect(watched).toMatchObject({ exitCode: 0, output: expect.stringContaining(`${layers} with ${layers} layers`) });
    expect(watched.residentMB).toBeLessThan(300);
  });

  it("is quantized in the memory of a few of its tensors, and written with its tensors beside it", async () => {
    const command = ["quantize", at("huge.onnx"), "-o", at("small.onnx"), "--data", at("huge.npy"), ...weightOnly];
    const watched = await watchMemory([program, ...command, "--external-data", "--no-check"]);
    report("quantize", watched);
    expect(watched).toMatchObject({ exitCode: 0, output: expect.stringContaining("was not run: as was asked for") });
    expect(watched.ownMB).toBeLessThan(10 * tensorMB + 200);
    expect(statSync(at("small.onnx")).size).toBeLessThan(1e6);
    expect(statSync(at("small.onnx.data")).size).toBeGreaterThanOrEqual(layers * size * size);
    const { graph } = readModelFile(at("small.onnx"));
    expect(graph.nodes.filter((node) => node.opType === "MatMul")).toHaveLength(layers);
  });
});

describe.each(Object.keys(manyOf))("many %s", (what) => {
  it.each([10_000, 100_000])("are looked at, and quantized up to a number: %i of them", async (count) => {
    writeModelFile(at("many.onnx"), manyOf[what](count));
    writeFileSync(at("many.npy"), encodeNpy(someFloats([4, 4])));
    const inspected = await watchMemory([program, "inspect", at("many.onnx"), ...weightOnly]);
    report(`inspect ${count} ${what}`, inspected);
    expect(inspected).toMatchObject({ exitCode: 0 });
    if (count > mostQuantized) return;
    const command = ["quantize", at("many.onnx"), "-o", at("few.onnx"), "--data", at("many.npy"), ...weightOnly];
    const quantized = await watchMemory([program, ...command, "--no-check"]);
    report(`quantize ${count} ${what}`, quantized);
    expect(quantized).toMatchObject({ exitCode: 0 });
  });
});
