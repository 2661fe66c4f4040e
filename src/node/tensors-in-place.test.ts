import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import { type Engine, withSession } from "../engine/engine.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { float32Values } from "../tensor/tensor.js";
import { readModelFile, writeModelFile } from "./model-file.js";
import { createRuntimeEngine } from "./runtime-engine.js";

let folder: string;
let engine: Engine;
const at = (...names: readonly string[]) => join(folder, ...names);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-test-"));
  for (const name of ["tmp", "model"]) mkdirSync(at(name));
  vi.stubEnv("TMPDIR", at("tmp"));
  engine = createRuntimeEngine({ threads: 1 });
});
afterEach(async () => {
  await engine.close();
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

const x = someFloats([1000], 1);
const a = someFloats([1000], 2);

/** y = x + a, a of 4000 bytes in a file beside the model. */
function externalModel(): Model {
  const nodes = [makeNode("Add", ["x", "a"], ["y"])];
  const { model } = makeTestModel({ feeds: { x }, nodes, outputs: ["y"], initializers: { a } });
  writeModelFile(at("model", "m.onnx"), model, { inlineLimit: 0 });
  return readModelFile(at("model", "m.onnx"));
}

/** What the runtime computes, and the bytes of the files that it was given. */
async function runOn(model: Model) {
  return withSession(engine, model, {}, async (session) => {
    const { outputs } = await session.run(new Map([["x", x]]));
    const [temporary] = readdirSync(at("tmp"));
    const files = readdirSync(at("tmp", temporary));
    const bytes = files.reduce((sum, file) => sum + readFileSync(at("tmp", temporary, file)).length, 0);
    return { y: [...float32Values(outputs.get("y")!)], bytes };
  });
}

const sum = Array.from(float32Values(x), (value, i) => Math.fround(value + float32Values(a)[i]));

describe("tensors in files beside the model, for the runtime", () => {
  it("are not copied", async () => {
    const { y, bytes } = await runOn(externalModel());
    expect(y).toEqual(sum);
    expect(bytes).toBeLessThan(1000);
  });

  it("are found under a new name and beside others that stand in memory", async () => {
    const model = externalModel();
    const { graph } = model;
    const nodes = [makeNode("Mul", ["x", "b"], ["z"]), makeNode("Add", ["z", "a2"], ["y"])];
    const initializers = new Map([
      ["a2", graph.constant("a")!],
      ["b", someFloats([1000], 3)],
    ]);
    const changed = applyPatch(graph, { label: "test", remove: graph.nodes, add: nodes, initializers });
    const { y, bytes } = await runOn(withGraph(model, changed));
    const b = float32Values(someFloats([1000], 3));
    const expected = Array.from(float32Values(x), (value, i) =>
      Math.fround(Math.fround(value * b[i]) + float32Values(a)[i]),
    );
    expect(y).toEqual(expected);
    expect(bytes).toBeLessThan(5000);
  });

  it("are not opened by the runtime where Recoup would not read them", async () => {
    const model = externalModel();
    linkSync(at("model", "m.onnx.data"), at("model", "other"));
    await expect(engine.open(model)).rejects.toThrow(
      expect.objectContaining({ code: "onnx/external-data", place: { field: "a" } }),
    );
  });

  it("are missed where they are gone", async () => {
    const model = externalModel();
    rmSync(at("model", "m.onnx.data"));
    await expect(engine.open(model)).rejects.toThrow(expect.objectContaining({ code: "onnx/external-data" }));
  });
});
