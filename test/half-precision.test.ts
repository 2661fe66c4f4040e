import { afterAll, describe, expect, it } from "vitest";
import { withSession } from "../src/engine/engine.js";
import { signalNoise, sqnrDb } from "../src/evaluate/outputs.js";
import { buildGraph } from "../src/graph/graph.js";
import { withGraph } from "../src/graph/model.js";
import { makeNode } from "../src/graph/node.js";
import { createRuntimeEngine } from "../src/node/runtime-engine.js";
import { resolveRecipe, type Settings } from "../src/recipe/settings.js";
import { float32Values, floatTensor, type Tensor } from "../src/tensor/tensor.js";
import { makeTestModel, someFloats, type TestModel } from "./models.js";
import { makeBranches, makeResidualNet, makeTransformer } from "./networks.js";
import { quantizeTestModel, runShipped } from "./quantizing.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

type Half = "float16" | "bfloat16";

function toHalf(tensor: Tensor, type: Half): Tensor {
  return tensor.type === "float32" ? floatTensor(type, tensor.shape, float32Values(tensor)) : tensor;
}

/** A network with all its float tensors in 16 bits, inputs and outputs included. */
function inHalf({ model, feeds }: TestModel, type: Half): TestModel {
  const { graph } = model;
  const inputs = graph.inputs.map((input) =>
    input.type.kind === "tensor" && input.type.elementType === "float32"
      ? { ...input, type: { ...input.type, elementType: type } }
      : input,
  );
  const initializers = new Map([...graph.initializers].map(([name, tensor]) => [name, toHalf(tensor, type)]));
  const half = withGraph(model, buildGraph({ ...graph, inputs, initializers, valueInfo: new Map() }));
  return { model: half, feeds: new Map([...feeds].map(([name, tensor]) => [name, toHalf(tensor, type)])) };
}

/** More samples like the one of a network. */
function samplesOf({ feeds }: TestModel, count: number) {
  return Array.from(
    { length: count },
    (_, i) =>
      new Map([...feeds].map(([name, { type, shape }]) => [name, toHalf(someFloats(shape, 500 + i), type as Half)])),
  );
}

const networks = { residual: makeResidualNet, branches: makeBranches, transformer: makeTransformer };
const recipes: Readonly<Record<string, Settings>> = {
  "8-bit weights and activations": {},
  "4-bit weights": { weights: 4, activations: "none" },
  "4-bit weights in groups": { weights: 4, activations: "none", granularity: "group:4" },
  "4-bit weights and bias compensation": { weights: 4, activations: "none", steps: ["bc"] },
  "4-bit weights by GPTQ": { weights: 4, activations: "none", rounding: "gptq" },
  "4-bit weights and block compensation": { weights: 4, activations: "none", steps: ["qwt"] },
  "4-bit weights and lines per channel": { weights: 4, activations: "none", steps: ["affine"] },
};

describe("networks in float16", () => {
  it.each(Object.keys(networks).flatMap((network) => Object.keys(recipes).map((recipe) => [network, recipe] as const)))(
    "%s with %s stay in float16",
    async (network, recipe) => {
      const half = inHalf(networks[network as keyof typeof networks](), "float16");
      const samples = samplesOf(half, 16);
      const { model, report } = await quantizeTestModel(
        engine,
        half,
        resolveRecipe(undefined, recipes[recipe]),
        samples,
      );
      expect(report.layers.length).toBeGreaterThan(4);
      const solved = report.steps.flatMap(({ sites }) => sites.filter((site) => site.kind === "solved"));
      if ((recipes[recipe].steps ?? []).includes("bc")) expect(solved.length).toBeGreaterThan(0);
      const before = (await withSession(engine, half.model, {}, (session) => session.run(half.feeds))).outputs;
      const after = await runShipped(engine, model, half.feeds);
      for (const [name, tensor] of before) {
        expect(after.get(name)?.type).toBe("float16");
        const db = sqnrDb(signalNoise(float32Values(tensor), float32Values(after.get(name)!)));
        expect(db).toBeGreaterThan(6);
      }
      // Weights became codes: no float weight of theirs is left, in whatever type.
      for (const { weight } of report.layers) expect(model.graph.initializers.has(weight)).toBe(false);
    },
  );
});

describe("bfloat16", () => {
  it("as a type of stored weights is read like any other", async () => {
    const w = floatTensor("bfloat16", [8, 8], float32Values(someFloats([8, 8], 2)));
    const test = makeTestModel({
      feeds: { x: someFloats([1, 8]) },
      nodes: [makeNode("Cast", ["w"], ["wf"], { to: 1 }), makeNode("MatMul", ["x", "wf"], ["y"])],
      initializers: { w },
      outputs: ["y"],
    });
    const { report } = await quantizeTestModel(
      engine,
      test,
      resolveRecipe(undefined, { weights: 8, activations: "none" }),
    );
    expect(report.layers).toHaveLength(1);
  });

  it("as a type that a network computes in is refused, with the reason and a way out", async () => {
    const run = quantizeTestModel(
      engine,
      inHalf(makeTransformer(), "bfloat16"),
      resolveRecipe(undefined, { weights: 8 }),
    );
    await expect(run).rejects.toMatchObject({
      code: "engine/refused",
      message: expect.stringContaining("bfloat16"),
    });
  });
});
