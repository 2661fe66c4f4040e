import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import { encodeNpy } from "../data/npy.js";
import type { Attribute } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { float32Tensor } from "../tensor/tensor.js";
import { compare } from "./compare.js";
import { evaluate } from "./evaluate.js";
import { writeModelFile } from "./model-file.js";

let folder: string;
const at = (name: string) => join(folder, name);
const options = () => ({ data: at("x.npy"), threads: 1 });

/** y = f(x · w), f of a given kind. */
function write(name: string, opType: string, w: number, opset = 13): string {
  const one = { kind: "float", value: 1 } as const;
  const attributes: Readonly<Record<string, Attribute>> = opType === "ScaledTanh" ? { alpha: one, beta: one } : {};
  const { model } = makeTestModel({
    opset,
    irVersion: 4,
    feeds: { x: someFloats([1, 2]) },
    nodes: [makeNode("MatMul", ["x", "w"], ["z"]), makeNode(opType, ["z"], ["y"], attributes)],
    outputs: ["y"],
    initializers: { w: float32Tensor([2, 2], [w, 0, 0, w]) },
  });
  writeModelFile(at(name), model);
  return at(name);
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "recoup-compare-"));
  writeFileSync(at("x.npy"), encodeNpy(float32Tensor([3, 2], [1, 2, 3, 4, 5, 6])));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("compare", () => {
  it("names the model that the runtime refuses", async () => {
    const [bad, good] = [write("bad.onnx", "Fancy", 1), write("good.onnx", "Tanh", 1)];
    const refused = { code: "engine/refused", place: { file: bad } };
    await expect(compare(bad, good, options())).rejects.toMatchObject(refused);
    await expect(compare(good, bad, options())).rejects.toMatchObject(refused);
    const task = { task: "classification", ...options() } as const;
    await expect(evaluate(good, { ...task, reference: bad })).rejects.toMatchObject(refused);
    await expect(evaluate(bad, { ...task, reference: good })).rejects.toMatchObject(refused);
  });

  it("keeps what it measured where the layers cannot be compared, and says why", async () => {
    const [old, newer] = [write("old.onnx", "ScaledTanh", 1, 9), write("new.onnx", "Tanh", 1)];
    const found = await compare(old, newer, options());
    expect(found).toMatchObject({ samples: 3, layers: [], output: { samples: 3 } });
    expect(found.warnings).toEqual([expect.stringMatching(/^layers were not compared: .*taken this operator back/)]);
  });

  it("warns of outputs that lost their numbers", async () => {
    const [sound, broken] = [write("sound.onnx", "Tanh", 1), write("broken.onnx", "Tanh", Number.NaN)];
    const found = await compare(sound, broken, options());
    expect(found.output).toMatchObject({ sqnrDb: Number.NEGATIVE_INFINITY, brokenSamples: 3 });
    expect(found.warnings).toEqual([expect.stringContaining("on 3 of 3 samples")]);
  });
});

describe("evaluate", () => {
  it("names the file of a label that the model has no class for", async () => {
    const [model, labels] = [write("m.onnx", "Tanh", 1), at("labels.txt")];
    const task = { task: "classification", ...options() } as const;
    await expect(evaluate(model, task)).rejects.toMatchObject({ code: "data/label", place: { file: at("x.npy") } });
    writeFileSync(labels, "0\n1\n2\n");
    await expect(evaluate(model, { ...task, labels })).rejects.toMatchObject({
      code: "data/label",
      place: { file: labels },
    });
  });
});
