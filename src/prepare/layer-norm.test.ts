import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModel } from "../../test/models.js";
import { makeTransformer } from "../../test/networks.js";
import { inBatches } from "../engine/batch.js";
import { type Feeds, withSession } from "../engine/engine.js";
import type { Attribute, Node } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { planModel } from "../planning.js";
import { prepareNetwork } from "../preparation.js";
import { parseRecipe, type RecipeInput } from "../recipe/recipe.js";
import { float32Tensor, float32Values, type Tensor } from "../tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const width = 5;
const x = someFloats([2, 3, width], 1);
const float = (value: number): Attribute => ({ kind: "float", value });

/** Channels of very different ranges, which is what the step is for. */
const constants: Readonly<Record<string, Tensor>> = {
  gain: float32Tensor([width], [1, 20, -0.1, 3, 0.5]),
  shift: float32Tensor([1, 1, width], [0, 30, -1, 0, 4]),
  vector: float32Tensor([width], [0, 30, -1, 0, 4]),
  w: someFloats([width, 4], 2),
  v: someFloats([4, width], 3),
  bias: someFloats([4], 4),
  one: someFloats([1], 5),
  positions: someFloats([3, 4], 6),
  two: float32Tensor([], [2]),
  half: float32Tensor([], [-0.5]),
};

function make(nodes: readonly Node[], outputs: readonly string[], opset = 17): TestModel {
  const read = new Set(nodes.flatMap(({ inputs }) => inputs));
  const initializers = Object.fromEntries(Object.entries(constants).filter(([name]) => read.has(name)));
  return makeTestModel({ feeds: { x }, nodes, outputs, initializers, opset });
}

async function prepare({ model, feeds }: TestModel, recipe: RecipeInput = {}) {
  const parsed = parseRecipe({ formats: [{ activation: { bits: 4 } }], steps: ["layernorm"], ...recipe });
  const plan = await planModel(model, parsed, engine);
  const batches = () => inBatches([{ id: "sample", feeds }], 1);
  const prepared = await prepareNetwork({ ...plan, engine, recipe: parsed, batches, batchCount: 1 });
  return { ...prepared, sites: prepared.steps[0].sites };
}

/** The widths of the ranges of the channels of a value. */
async function channelRanges(model: Model, feeds: Feeds, value: string) {
  const tensor = await withSession(engine, model, { taps: [value] }, async (session) => {
    return (await session.run(feeds)).outputs.get(value)!;
  });
  const channels = tensor.shape.at(-1)!;
  const values = float32Values(tensor);
  return Array.from({ length: channels }, (_, c) => {
    const own = values.filter((_, i) => i % channels === c);
    return { low: Math.min(...own), high: Math.max(...own) };
  });
}

const normalize = makeNode("LayerNormalization", ["x", "gain", "vector"], ["n"], { axis: -1 });
const product = makeNode("MatMul", ["n", "w"], ["y"]);
const deviation = [
  makeNode("ReduceMean", ["x"], ["mean"], { axes: [-1] }),
  makeNode("Sub", ["x", "mean"], ["centred"]),
  makeNode("Pow", ["centred", "two"], ["squares"]),
  makeNode("ReduceMean", ["squares"], ["variance"], { axes: [-1] }),
];

const shifted: readonly (readonly [about: string, nodes: readonly Node[]])[] = [
  ["a product without bias", [normalize, product]],
  ["a normalization that adds nothing", [makeNode("LayerNormalization", ["x", "gain"], ["n"]), product]],
  ["a product and its bias", [normalize, makeNode("MatMul", ["n", "w"], ["p"]), makeNode("Add", ["bias", "p"], ["y"])]],
  [
    "a bias for each position",
    [normalize, makeNode("MatMul", ["n", "w"], ["p"]), makeNode("Add", ["p", "positions"], ["y"])],
  ],
  ["a bias of one number", [normalize, makeNode("MatMul", ["n", "w"], ["p"]), makeNode("Add", ["p", "one"], ["y"])]],
  [
    "a weight that two layers read",
    [normalize, product, makeNode("MatMul", ["n", "w"], ["z"]), makeNode("Add", ["y", "z"], ["o"])],
  ],
  [
    "a weight and a bias that others read too",
    [
      normalize,
      makeNode("MatMul", ["n", "w"], ["p"]),
      makeNode("Add", ["p", "bias"], ["y"]),
      makeNode("MatMul", ["x", "w"], ["q"]),
      makeNode("Add", ["q", "bias"], ["z"]),
    ],
  ],
  ["a transposed weight", [normalize, makeNode("Transpose", ["v"], ["t"]), makeNode("MatMul", ["n", "t"], ["y"])]],
  [
    "one that is written out, with Div",
    [
      ...deviation,
      makeNode("Sqrt", ["variance"], ["root"]),
      makeNode("Div", ["centred", "root"], ["d"]),
      makeNode("Mul", ["d", "gain"], ["m"]),
      makeNode("Add", ["m", "shift"], ["n"]),
      product,
    ],
  ],
  [
    "one that is written out, with Reciprocal",
    [
      ...deviation,
      makeNode("Sqrt", ["variance"], ["root"]),
      makeNode("Reciprocal", ["root"], ["r"]),
      makeNode("Mul", ["centred", "r"], ["d"]),
      makeNode("Mul", ["gain", "d"], ["m"]),
      makeNode("Add", ["shift", "m"], ["n"]),
      product,
    ],
  ],
];

const scaledOnly: readonly (readonly [about: string, nodes: readonly Node[], opset: number])[] = [
  ["RMSNorm", [makeNode("SimplifiedLayerNormalization", ["x", "gain"], ["n"], { axis: -1 }), product], 17],
  ["RMSNormalization", [makeNode("RMSNormalization", ["x", "gain"], ["n"]), product], 23],
  [
    "RMSNorm that is written out",
    [
      ...deviation,
      makeNode("Pow", ["variance", "half"], ["r"]),
      makeNode("Mul", ["centred", "r"], ["d"]),
      makeNode("Mul", ["gain", "d"], ["n"]),
      product,
    ],
    17,
  ],
];

describe("layernorm", () => {
  it.each(shifted)("brings channels to one range around zero before %s", async (_about, nodes) => {
    const outputs = nodes.some(({ outputs: [name] }) => name === "z") ? ["y", "z"] : ["y"];
    const given = make(nodes, outputs);
    const { float: prepared, sites } = await prepare(given);
    expect(sites.map(({ kind }) => kind)).toEqual(["solved"]);
    const [before, after] = [given.model, prepared].map((model) => runModel(engine, model, given.feeds));
    expect(largestDifference(await before, await after)).toBeLessThan(1e-5);
    const ranges = await channelRanges(prepared, given.feeds, "n");
    for (const { low, high } of ranges) {
      expect(high / ranges[0].high).toBeCloseTo(1, 4);
      expect(low / high).toBeCloseTo(-1, 4);
    }
  });

  it.each(scaledOnly)("brings channels to one reach before a product: %s", async (_about, nodes, opset) => {
    const given = make(nodes, ["y"], opset);
    const { float: prepared, sites } = await prepare(given);
    expect(sites.map(({ kind }) => kind)).toEqual(["solved"]);
    const [before, after] = [given.model, prepared].map((model) => runModel(engine, model, given.feeds));
    expect(largestDifference(await before, await after)).toBeLessThan(1e-5);
    const reaches = (await channelRanges(prepared, given.feeds, "n")).map(({ low, high }) => Math.max(-low, high));
    for (const reach of reaches) expect(reach / reaches[0]).toBeCloseTo(1, 4);
  });

  it.each([
    ["w", {}],
    ["v", { transB: 1 }],
    ["w", { alpha: float(0.5), beta: float(3) }],
  ] as const)("goes into a Gemm: %s, %j", async (weight, attributes) => {
    for (const bias of [[], ["bias"], ["one"]]) {
      const gemm = makeNode("Gemm", ["n", weight, ...bias], ["y"], attributes);
      // Gemm may stay in float, as with alpha: the product beside it is on a grid.
      const nodes = [normalize, gemm, makeNode("MatMul", ["n", "w"], ["z"])];
      const initializers = Object.fromEntries(
        ["gain", "vector", "w", weight, ...bias].map((name) => [name, constants[name]] as const),
      );
      const given = makeTestModel({
        feeds: { x: someFloats([6, width], 7) },
        nodes,
        outputs: ["y", "z"],
        initializers,
      });
      const { float: prepared, sites } = await prepare(given);
      expect(sites.map(({ kind }) => kind)).toEqual(["solved"]);
      const [before, after] = [given.model, prepared].map((model) => runModel(engine, model, given.feeds));
      expect(largestDifference(await before, await after)).toBeLessThan(1e-5);
    }
  });

  it("halves nothing where it is told to leave the ranges", async () => {
    const given = make([normalize, product], ["y"]);
    const { float: prepared } = await prepare(given, { steps: [{ use: "layernorm", exponent: 0 }] });
    const [before, after] = [
      await channelRanges(given.model, given.feeds, "n"),
      await channelRanges(prepared, given.feeds, "n"),
    ];
    for (const [c, { low, high }] of after.entries()) {
      expect((high - low) / (before[c].high - before[c].low)).toBeCloseTo(1, 4);
      expect(low / high).toBeCloseTo(-1, 3);
    }
  });

  it("leaves a channel that never changes where it is", async () => {
    const still = float32Tensor([width], [1, 0, 1, 1, 1]);
    const { feeds } = make([normalize, product], ["y"]);
    const given = makeTestModel({
      feeds: { x },
      nodes: [normalize, product],
      outputs: ["y"],
      initializers: { gain: still, vector: constants.vector, w: constants.w },
    });
    const { float: prepared } = await prepare(given);
    const ranges = await channelRanges(prepared, feeds, "n");
    expect(ranges.every(({ low, high }) => Number.isFinite(high - low))).toBe(true);
    const [before, after] = [given.model, prepared].map((model) => runModel(engine, model, feeds));
    expect(largestDifference(await before, await after)).toBeLessThan(1e-5);
  });

  it.each([
    ["an output of the model", [normalize, product], ["n", "y"], /output of the model/],
    ["an addend too", [normalize, product, makeNode("Add", ["x", "n"], ["z"])], ["y", "z"], /reads it/],
    [
      "no layer",
      [normalize, makeNode("Tanh", ["n"], ["y"]), makeNode("MatMul", ["x", "w"], ["z"])],
      ["y", "z"],
      /reads it/,
    ],
  ] as const)("leaves a normalization alone that is %s", async (_about, nodes, outputs, reason) => {
    const { sites, float: prepared } = await prepare(make(nodes, outputs));
    expect(sites).toMatchObject([{ kind: "skipped", reason: expect.stringMatching(reason) }]);
    expect(prepared.graph.producer("n")).toMatchObject({ inputs: normalize.inputs });
  });

  it("leaves a normalization alone whose layers read it in float", async () => {
    const { sites } = await prepare(make([normalize, product], ["y"]), { formats: [{ activation: "float" }] });
    expect(sites).toMatchObject([{ kind: "skipped", reason: expect.stringMatching(/on a grid/) }]);
  });

  it("keeps what a transformer computes", async () => {
    const given = makeTransformer();
    const { float: prepared, sites } = await prepare(given);
    expect(sites.map(({ kind }) => kind)).toEqual(["solved", "solved", "solved", "solved"]);
    const [before, after] = [given.model, prepared].map((model) => runModel(engine, model, given.feeds));
    expect(largestDifference(await before, await after)).toBeLessThan(1e-5);
  });
});
