import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats, type TestModelParts } from "../../test/models.js";
import { quantizeTestModel, runShipped } from "../../test/quantizing.js";
import type { Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { planModel } from "../planning.js";
import { parseRecipe, type RecipeInput } from "../recipe/recipe.js";
import { float32Tensor, float32Values, int64Tensor, type Tensor, tensorFromBytes } from "../tensor/tensor.js";
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

describe("the shares of attention", () => {
  const product = (shares: string) => makeNode("MatMul", [shares, "v"], ["y"]);
  const softmax = makeNode("Softmax", ["x"], ["s"], { axis: -1 });
  const moved = makeNode("Transpose", ["s"], ["t"], { perm: [0, 2, 1, 3] });
  const shares: readonly (readonly [about: string, spacing: string | undefined, nodes: readonly Node[]])[] = [
    ["from a Softmax", "log", [softmax, product("s")]],
    [
      "moved",
      "log",
      [softmax, moved, makeNode("Reshape", ["t", "shape"], ["r"]), makeNode("MatMul", ["r", "r"], ["y"])],
    ],
    [
      "written out",
      "log",
      [
        makeNode("Exp", ["x"], ["e"]),
        makeNode("ReduceSum", ["e", "last"], ["sum"]),
        makeNode("Div", ["e", "sum"], ["s"]),
        product("s"),
      ],
    ],
    [
      "with empty rows set to zero",
      "log",
      [softmax, makeNode("Where", ["no", "zero", "s"], ["chosen"]), product("chosen")],
    ],
    ["beside others", "uniform", [softmax, makeNode("Where", ["no", "x", "s"], ["chosen"]), product("chosen")]],
    ["that a layer reads", "uniform", [softmax, makeNode("MatMul", ["s", "square"], ["y"])]],
    ["scaled", "uniform", [softmax, makeNode("Mul", ["s", "s"], ["m"]), product("m")]],
  ];
  const spacingIn = async (nodes: readonly Node[], recipe: RecipeInput) => {
    const all: Readonly<Record<string, Tensor>> = {
      square: someFloats([9, 9], 4),
      shape: int64Tensor([4], [1, 4, 9, 9]),
      last: int64Tensor([1], [-1]),
      zero: float32Tensor([], [0]),
      no: tensorFromBytes("bool", [], new Uint8Array(1)),
    };
    const read = new Set(nodes.flatMap(({ inputs }) => inputs));
    const initializers = Object.fromEntries(Object.entries(all).filter(([name]) => read.has(name)));
    // A product alone is no layer; the convolution is one.
    const { model } = makeTestModel({
      feeds: { x: someFloats([1, 4, 9, 9]), v: someFloats([1, 4, 9, 9], 5) },
      nodes: [...nodes, conv("x", "z")],
      outputs: ["y", "z"],
      initializers: { ...initializers, w: constants.w },
    });
    const { float, types, choice } = await planModel(model, parseRecipe(recipe), engine);
    const sites = activationSites(float.graph, types, choice);
    return sites.find(({ value }) => ["s", "r", "chosen", "m"].includes(value))?.spacing;
  };

  it.each(shares)("%s: %s", async (_about, spacing, nodes) => {
    expect(await spacingIn(nodes, { formats: [{ activation: { bits: 4 } }] })).toBe(spacing);
  });

  it("have levels as the recipe says, equidistant ones at 8 bits", async () => {
    const nodes = [softmax, product("s")];
    expect(await spacingIn(nodes, {})).toBe("uniform");
    const spacings = (["uniform", "twin"] as const).map((spacing) =>
      spacingIn(nodes, { formats: [{ activation: { bits: 5, softmax: spacing } }] }),
    );
    expect(await Promise.all(spacings)).toEqual(["uniform", "twin"]);
    expect(await spacingIn(nodes, { formats: [{ activation: { softmax: "log" } }] })).toBe("uniform");
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
