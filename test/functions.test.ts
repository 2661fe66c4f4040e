import { afterAll, describe, expect, it } from "vitest";
import { signalNoise, sqnrDb } from "../src/evaluate/outputs.js";
import type { Model } from "../src/graph/model.js";
import { createRuntimeEngine } from "../src/node/runtime-engine.js";
import { encodeModel, joinChunks, readModel } from "../src/onnx/model.js";
import type { RecipeInput } from "../src/recipe/recipe.js";
import { float32Values, type Tensor } from "../src/tensor/tensor.js";
import { runModel, someFloats } from "./models.js";
import { quantizeTestModel } from "./quantizing.js";
import {
  attributeOf,
  attributeType,
  bytes,
  callOf,
  concat,
  float,
  functionOf,
  graphField,
  initializerOf,
  littleEndian,
  modelOf,
  nodeOf,
  number,
  opset,
  referenceTo,
  text,
} from "./wire.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** As a PyTorch exporter writes modules: a layer with its bias, and an activation with an attribute. */
const linear = functionOf("Linear", {
  inputs: ["x", "w", "b"],
  outputs: ["y"],
  nodes: [nodeOf("MatMul", ["x", "w"], ["product"]), nodeOf("Add", ["product", "b"], ["y"])],
});
const leaky = functionOf("Leaky", {
  inputs: ["x"],
  outputs: ["y"],
  attributes: ["slope"],
  nodes: [nodeOf("LeakyRelu", ["x"], ["y"], referenceTo("slope", "alpha", attributeType.float))],
});
const block = functionOf("Block", {
  inputs: ["x", "w", "b"],
  outputs: ["y"],
  nodes: [
    callOf("Linear", ["x", "w", "b"], ["l"]),
    callOf("Leaky", ["l"], ["y"], attributeOf("slope", attributeType.float, float(2, 0.1))),
  ],
});

const floatsOf = (name: string, shape: readonly number[], seed: number) =>
  initializerOf(name, 1, shape, bytes(9, littleEndian(float32Values(someFloats(shape, seed)))));
const batch = (field: number, name: string, size: number) =>
  bytes(
    field,
    text(1, name),
    bytes(2, bytes(1, number(1, 1), bytes(2, bytes(1, text(2, "batch")), bytes(1, number(1, size))))),
  );

function makeModel(): Model {
  const graph = concat(
    callOf("Block", ["x", "w1", "b1"], ["h1"], text(3, "first")),
    callOf("Block", ["h1", "w2", "b2"], ["h2"], text(3, "second")),
    callOf("Linear", ["h2", "w3", "b3"], ["y"], text(3, "head")),
    text(2, "main"),
    ...[1, 2].flatMap((i) => [floatsOf(`w${i}`, [8, 8], i), floatsOf(`b${i}`, [8], 10 + i)]),
    floatsOf("w3", [8, 4], 3),
    floatsOf("b3", [4], 13),
    batch(graphField.input, "x", 8),
    batch(graphField.output, "y", 4),
  );
  return readModel(modelOf(graph, opset(1, "local"), linear, leaky, block));
}

const samples = Array.from({ length: 6 }, (_, i) => new Map([["x", someFloats([1, 8], 20 + i)]]));
const [feeds] = samples;

describe("a model with functions of its own", () => {
  it.each<readonly [about: string, recipe: RecipeInput, layers: readonly string[], functions: readonly string[]]>([
    ["as layers are wanted", {}, ["first/l/product", "second/l/product", "head/product"], ["local::Leaky"]],
    ["all of them", { inlineFunctions: "all" }, ["first/l/product", "second/l/product", "head/product"], []],
  ])("is quantized with its functions written out, %s", async (_about, recipe, layers, functions) => {
    const model = makeModel();
    const formats: RecipeInput["formats"] = [{ weight: { bits: 8, rounding: { use: "gptq" } } }];
    const outcome = await quantizeTestModel(engine, { model, feeds }, { ...recipe, formats, steps: ["bc"] }, samples);
    expect(outcome.report.layers.map(({ name }) => name)).toEqual(layers);
    expect(outcome.report.clean[0].name).toBe("inline-functions");
    expect(outcome.report.clean[0].changed).toContain("head: call of local::Linear became 2 nodes");
    const read = readModel(joinChunks(encodeModel(outcome.model).chunks));
    expect([...read.functions.keys()]).toEqual(functions);
    const [wanted, found] = [await runModel(engine, model, feeds), await runModel(engine, read, feeds)];
    const values = [wanted, found].map((outputs) => float32Values(outputs.get("y") as Tensor));
    expect(sqnrDb(signalNoise(values[0], values[1]))).toBeGreaterThan(25);
  });

  it("says why nothing is quantized where its functions shall stay", async () => {
    const model = makeModel();
    await expect(
      quantizeTestModel(engine, { model, feeds }, { inlineFunctions: "none" }, samples),
    ).rejects.toMatchObject({
      code: "quantize/nothing-to-do",
      message: expect.stringContaining("2 functions"),
    });
  });
});
