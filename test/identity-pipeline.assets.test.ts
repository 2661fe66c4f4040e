import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { cleanModel } from "../src/clean/index.js";
import { readModelFile, writeModelFile } from "../src/node/model-file.js";
import { createRuntimeEngine } from "../src/node/runtime-engine.js";
import { expectedStatuses, isIdentical, nodeTestModel, runNodeTest } from "./node-tests.js";
import { sharedFolder } from "./shared.js";

const engine = createRuntimeEngine({ threads: 1 });
const folder = mkdtempSync(join(tmpdir(), "recoup-identity-"));
afterAll(async () => {
  await engine.close();
  rmSync(folder, { recursive: true });
});

const expected = expectedStatuses();

describe.skipIf(sharedFolder === undefined)("the standard's node tests (needs the folder RECOUP_SHARED)", () => {
  it("are 300", () => {
    expect(expected.size).toBe(300);
  });

  it.each([...expected])("%s is %s as it is and after load, clean and save", async (name, status) => {
    const path = nodeTestModel(name);
    const model = readModelFile(path);
    const before = await runNodeTest(name, path, model);
    expect(before, before.message).toMatchObject({ status });
    const { model: cleaned } = await cleanModel(model, { engine });
    const saved = join(folder, "saved.onnx");
    writeModelFile(saved, cleaned);
    const after = await runNodeTest(name, saved, readModelFile(saved));
    expect(after, after.message).toMatchObject({ status });
    if (status !== "pass") return;
    const different = [...before.outputs].filter(([output, tensor]) => !isIdentical(tensor, after.outputs.get(output)));
    expect(different.map(([output]) => output)).toEqual([]);
  });
});
