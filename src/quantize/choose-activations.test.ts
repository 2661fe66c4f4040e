import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats, type TestModelParts } from "../../test/models.js";
import { quantizeTestModel, runShipped } from "../../test/quantizing.js";
import type { Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { planModel } from "../planning.js";
import { parseRecipe, type RecipeInput } from "../recipe/recipe.js";
import { float32Tensor, float32Values, type Tensor } from "../tensor/tensor.js";
import { activationSites } from "./quantize.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const constants: Readonly<Record<string, Tensor>> = {
  w: someFloats([4, 4, 3, 3], 2),
  v: someFloats([4, 4, 3, 3], 3),
};

function parts(nodes: readonly Node[], outputs: readonly string[]): TestModelParts {
  const read = new Set(nodes.flatMap((node) => node.inputs));
  const initializers = Object.fromEntries(Object.entries(constants).filter(([name]) => read.has(name)));
  return { feeds: { x: someFloats([1, 4, 9, 9]) }, nodes, outputs, initializers };
}

const conv = (input: string, output: string, weight = "w") =>
  makeNode("Conv", [input, weight], [output], { pads: [1, 1, 1, 1] });

/** The quantized values of a network, those that come out of integer kernels in capitals. */
async function sitesOf(nodes: readonly Node[], outputs: readonly string[], recipe: RecipeInput = {}): Promise<string> {
  const { model } = makeTestModel(parts(nodes, outputs));
  const { float, types, choice } = await planModel(model, parseRecipe(recipe), engine);
  return activationSites(float.graph, types, choice)
    .map(({ value, isIntegerOutput }) => (isIntegerOutput ? value.toUpperCase() : value))
    .sort()
    .join(" ");
}

const act = makeNode("Tanh", ["z"], ["y"]);

describe("chooseActivations", () => {
  const cases: readonly (readonly [about: string, sites: string, nodes: readonly Node[]])[] = [
    ["inputs and outputs of convolutions", "A Z x", [conv("x", "a"), conv("a", "z", "v"), act]],
    ["the value behind a Relu", "R Z x", [conv("x", "a"), makeNode("Relu", ["a"], ["r"]), conv("r", "z"), act]],
    [
      "both operands of a sum of integer outputs, and the sum",
      "A B S Z x",
      [conv("x", "a"), conv("x", "b", "v"), makeNode("Add", ["a", "b"], ["s"]), conv("s", "z"), act],
    ],
    [
      "no operand of a sum with a float value",
      "A Z s x",
      [conv("x", "a"), makeNode("Tanh", ["x"], ["t"]), makeNode("Add", ["a", "t"], ["s"]), conv("s", "z"), act],
    ],
    [
      "no operand of a sum that no layer reads",
      "A B x",
      [conv("x", "a"), conv("x", "b", "v"), makeNode("Add", ["a", "b"], ["z"]), act],
    ],
    [
      "what leads up to a layer through operators that only move values",
      "A M T Z x",
      [
        conv("x", "a"),
        makeNode("MaxPool", ["a"], ["m"], { kernel_shape: [2, 2] }),
        makeNode("Transpose", ["m"], ["t"], { perm: [0, 1, 3, 2] }),
        conv("t", "z"),
        act,
      ],
    ],
    [
      "all inputs of a Concat with an integer one",
      "A B Z t x",
      [
        conv("x", "a"),
        makeNode("Tanh", ["x"], ["t"]),
        makeNode("Concat", ["a", "t"], ["b"], { axis: 2 }),
        conv("b", "z"),
        act,
      ],
    ],
  ];

  it.each(cases)("quantizes %s", async (_about, sites, nodes) => {
    expect(await sitesOf(nodes, ["y"])).toBe(sites);
  });

  it("quantizes the value before a Relu that others read too", async () => {
    const nodes = [conv("x", "a"), makeNode("Relu", ["a"], ["r"]), conv("r", "z"), act, makeNode("Tanh", ["a"], ["t"])];
    expect(await sitesOf(nodes, ["y", "t"])).toBe("A Z r x");
  });

  it("leaves sums in float beside values below 8 bits", async () => {
    const nodes = [conv("x", "a"), conv("x", "b", "v"), makeNode("Add", ["a", "b"], ["s"]), conv("s", "z"), act];
    expect(await sitesOf(nodes, ["y"], { formats: [{ activation: { bits: 4 } }] })).toBe("A B Z s x");
  });

  it("quantizes nothing where activations stay in float", async () => {
    expect(await sitesOf([conv("x", "z"), act], ["y"], { formats: [{ activation: "float" }] })).toBe("");
  });
});

describe("a detection head", () => {
  // Boxes in pixels and scores below 1 in one output, as YOLO exports have it.
  const nodes = [
    conv("x", "a"),
    makeNode("Relu", ["a"], ["r"]),
    conv("r", "b"),
    conv("r", "s", "v"),
    makeNode("Mul", ["b", "pixels"], ["boxes"]),
    makeNode("Sigmoid", ["s"], ["scores"]),
    makeNode("Concat", ["boxes", "scores"], ["y"], { axis: 1 }),
  ];
  const given = parts(nodes, ["y"]);
  const test = makeTestModel({
    ...given,
    initializers: { ...given.initializers, pixels: float32Tensor([1, 4, 1, 1], [640, 640, 320, 320]) },
  });

  it("keeps boxes and scores on grids of their own, so that scores do not vanish", async () => {
    const { model, report } = await quantizeTestModel(engine, test);
    for (const { values } of report.activations) expect(values).toHaveLength(1);
    const concat = model.graph.producer("y")!;
    expect(concat.inputs).toEqual(["boxes", "scores"]);
    const values = float32Values((await runShipped(engine, model, test.feeds)).get("y")!);
    const scores = values.subarray(values.length / 2);
    expect(new Set(scores).size).toBeGreaterThan(100);
    expect(scores.every((score) => score > 0 && score < 1)).toBe(true);
  });
});
