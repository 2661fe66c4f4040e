import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModel } from "../../test/models.js";
import {
  makeBranches,
  makeChain,
  makeDecoder,
  makeResidualNet,
  makeTransformer,
  NetworkWriter,
} from "../../test/networks.js";
import { quantizeTestModel } from "../../test/quantizing.js";
import { prepareRefinement } from "../../test/refining.js";
import { fetchRows, roundLayerSlowly } from "../../test/slow-refinement.js";
import { type WeightForm, weightForms } from "../../test/weight-forms.js";
import { type Feeds, withSession } from "../engine/engine.js";
import { buildGraph } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { encodeModel, joinChunks } from "../onnx/model.js";
import type { RoundingTarget } from "../quantize/format.js";
import type { RecipeInput } from "../recipe/recipe.js";
import type { RunReport } from "../report/run-report.js";
import { isFloatType } from "../tensor/element-type.js";
import { float32Tensor, float32Values, floatTensor, int64Tensor } from "../tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

type Format = NonNullable<RecipeInput["formats"]>[number];
type Weight = Exclude<Format["weight"], "float" | undefined>;

/** Weights of 3 bits that are rounded by GPTQ; more fields take precedence. */
function gptq(target: RoundingTarget, weight: Weight = {}, activation: Format["activation"] = "float"): RecipeInput {
  return { formats: [{ weight: { bits: 3, rounding: { use: "gptq", target }, ...weight }, activation }] };
}

const toNearest = gptq("same", { rounding: "rtn" });

/** Samples like those that a model is fed, of other numbers. */
function samplesLike({ feeds }: TestModel, count = 3): readonly Feeds[] {
  return Array.from({ length: count }, (_, i): Feeds => {
    const tensors = [...feeds].map(([name, tensor]) => {
      if (!isFloatType(tensor.type)) return [name, tensor] as const;
      return [name, floatTensor(tensor.type, tensor.shape, float32Values(someFloats(tensor.shape, 50 + i)))] as const;
    });
    return new Map(tensors);
  });
}

function bytesOf(model: Model): Uint8Array {
  return joinChunks(encodeModel(model).chunks);
}

/** What a model returns on some samples. */
async function outputsOn(samples: readonly Feeds[], model: Model, mode: "exact" | "shipped" = "exact") {
  return withSession(engine, model, { mode }, async (session) => {
    const outputs: Feeds[] = [];
    for (const feeds of samples) outputs.push((await session.run(feeds)).outputs);
    return outputs;
  });
}

/** Mean squared difference between what two models returned. */
function meanSquare(expected: readonly Feeds[], found: readonly Feeds[]): number {
  let [sum, count] = [0, 0];
  for (const [i, outputs] of expected.entries()) {
    for (const [name, tensor] of outputs) {
      const others = float32Values(found[i].get(name)!);
      for (const [k, value] of float32Values(tensor).entries()) sum += (value - others[k]) ** 2;
      count += others.length;
    }
  }
  return sum / count;
}

function sitesOf({ steps }: RunReport) {
  return steps.filter(({ name }) => name === "gptq").flatMap(({ sites }) => sites);
}

/** Every weight has a record of what became of it, which says nothing that cannot be. */
function expectHonest(report: RunReport): void {
  const weights = new Set(report.layers.map((layer) => layer.weight));
  const sites = sitesOf(report);
  expect(sites).toHaveLength(weights.size);
  for (const site of sites) {
    if (site.kind === "skipped") expect(site.reason).toMatch(/^rounded to nearest: /);
    else expect(site.errorAfter).toBeLessThanOrEqual(site.errorBefore);
  }
  for (const layer of report.layers) expect(Number.isFinite(layer.weightSqnrDb)).toBe(true);
}

/** Loads and runs a model as users do. */
async function expectFinite(model: Model, samples: readonly Feeds[]): Promise<void> {
  for (const outputs of await outputsOn(samples, model, "shipped")) {
    for (const tensor of outputs.values()) expect(float32Values(tensor).every(Number.isFinite)).toBe(true);
  }
}

const picture = someFloats([2, 4, 5, 6]);
const moreForms: readonly WeightForm[] = [
  {
    about: "Conv of three axes, with dilation",
    feeds: { x: someFloats([1, 2, 4, 5, 4]) },
    nodes: [makeNode("Conv", ["x", "w"], ["y"], { dilations: [1, 2, 1], pads: [1, 0, 0, 0, 1, 1] })],
    initializers: { w: someFloats([3, 2, 2, 2, 3], 2) },
    channelAxes: { w: 0 },
    outputs: ["y"],
  },
  {
    about: "Conv with auto_pad SAME_LOWER and strides",
    feeds: { x: picture },
    nodes: [makeNode("Conv", ["x", "w"], ["y"], { auto_pad: "SAME_LOWER", strides: [2, 2] })],
    initializers: { w: someFloats([5, 4, 3, 2], 2) },
    channelAxes: { w: 0 },
    outputs: ["y"],
  },
  {
    about: "Conv with auto_pad VALID",
    feeds: { x: picture },
    nodes: [makeNode("Conv", ["x", "w"], ["y"], { auto_pad: "VALID" })],
    initializers: { w: someFloats([5, 4, 3, 2], 2) },
    channelAxes: { w: 0 },
    outputs: ["y"],
  },
];

/** Forms that are no product of one matrix with an input, and what the report says of them. */
const reasons: Readonly<Record<string, string>> = {
  ConvTranspose: "y is not one product with it",
  "ConvTranspose in groups": "y is not one product with it",
  "MatMul with a matrix for each of a batch": "y is not one product with it",
  "a weight behind a Transpose that moves three axes around": "y is not one product with it",
  Gather: "y looks it up",
  "a table that is the last layer's weight too": "e looks it up",
  "a table that is multiplied with too": "e looks it up",
  "LSTM, both directions, first output not wanted": "lstm is not one product with it",
  GRU: "y is not one product with it",
  "ConvTranspose, float16": "y is not one product with it",
  "Gather, float16": "y looks it up",
  "GRU, float16": "y is not one product with it",
};

const forms = [...weightForms, ...moreForms];

it.each(forms)("GPTQ leaves no more error in the output than rounding to nearest: $about", async (form) => {
  const given = makeTestModel(form);
  const samples = samplesLike(given);
  const float = await outputsOn(samples, given.model);
  const { model, report } = await quantizeTestModel(engine, given, gptq("same"), samples);
  const { model: nearest } = await quantizeTestModel(engine, given, toNearest, samples);
  const after = meanSquare(float, await outputsOn(samples, model));
  const before = meanSquare(float, await outputsOn(samples, nearest));
  const reason = reasons[form.about];
  if (reason === undefined) expect(after).toBeLessThanOrEqual(1.0001 * before);
  else expect(after).toBe(before);
  expectHonest(report);
  const skipped = sitesOf(report).flatMap((site) => (site.kind === "skipped" ? [site.reason] : []));
  expect([...new Set(skipped)]).toEqual(reason === undefined ? [] : [`rounded to nearest: ${reason}`]);
});

it.each(forms.filter(({ about }) => !(about in reasons)))(
  "GPTQ runs with activations on grids: $about",
  async (form) => {
    const given = makeTestModel(form);
    const samples = samplesLike(given);
    const { model, report } = await quantizeTestModel(engine, given, gptq("float", {}, { bits: 8 }), samples);
    expectHonest(report);
    await expectFinite(model, samples);
  },
);

describe("the records of GPTQ", () => {
  const net = new NetworkWriter();
  net.node("MatMul", ["x", net.weight("w", [12, 5])], "y");
  const given = net.finish({ x: someFloats([4, 12]) }, ["y"]);
  const samples = samplesLike(given, 7);

  const order = "natural";
  it.each<readonly [about: string, weight: Weight, rounding: object, storage: RecipeInput["storage"]]>([
    ["per channel", {}, {}, "packed"],
    ["per tensor", { granularity: "tensor" }, {}, "packed"],
    ["in groups", { granularity: "group:5" }, {}, "packed"],
    ["in groups whose turn comes", { granularity: "group:4" }, { groups: "dynamic", order }, "packed"],
    ["in 4-bit types", { bits: 4 }, { order }, "onnx"],
    ["in bytes", {}, {}, "int8"],
  ])("tell the mean squared error of the output, %s", async (_about, weight, fields, storage) => {
    const recipe = (use: Weight["rounding"]) => ({ ...gptq("same", { ...weight, rounding: use }), storage });
    const rounding = { use: "gptq", target: "same", ...fields } as const;
    const chosen = await quantizeTestModel(engine, given, recipe(rounding), samples);
    const nearest = await quantizeTestModel(engine, given, recipe("rtn"), samples);
    const float = await outputsOn(samples, given.model);
    const after = meanSquare(float, await outputsOn(samples, chosen.model));
    const before = meanSquare(float, await outputsOn(samples, nearest.model));
    const [site] = sitesOf(chosen.report);
    expect(site).toMatchObject({ label: "y", kind: "solved" });
    if (site.kind !== "solved") return;
    expect(site.errorAfter / after).toBeCloseTo(1, 3);
    expect(site.errorBefore / before).toBeCloseTo(1, 3);
    expect(site.errorAfter).toBeLessThan(0.97 * site.errorBefore);
  });

  it("tell of too few rows, and of several readers", async () => {
    const remarks = async (count: number, more: readonly string[] = []) => {
      const nodes = ["y", ...more].map((name) => makeNode("MatMul", ["x", "w"], [name]));
      const one = makeTestModel({
        feeds: { x: someFloats([4, 12]) },
        nodes,
        outputs: ["y", ...more],
        initializers: { w: someFloats([12, 5], 2) },
      });
      const { report } = await quantizeTestModel(engine, one, gptq("same"), samplesLike(one, count));
      return sitesOf(report).map((site) => site.kind === "solved" && site.remark);
    };
    expect(await remarks(6)).toEqual([undefined]);
    const few = "20 rows of input for 12 columns: more samples would serve it better";
    expect(await remarks(5)).toEqual([few]);
    const shared = "rounded for the first of the 2 layers that read the weight";
    expect(await remarks(6, ["z"])).toEqual([shared]);
    expect(await remarks(5, ["z"])).toEqual([`${shared}; ${few}`]);
  });

  it("stand beside those of weights that are rounded to nearest, by name", async () => {
    const { feeds, model } = makeTransformer();
    const formats: Format[] = [
      { match: "wide*", weight: { bits: 3 }, activation: "float" },
      ...(gptq("same").formats ?? []),
    ];
    const { report } = await quantizeTestModel(engine, { feeds, model }, { formats }, samplesLike({ feeds, model }));
    const chosen = report.layers.filter(({ rounding }) => rounding === "gptq").map(({ name }) => name);
    expect(chosen).toHaveLength(report.layers.length - 2);
    expect(new Set(sitesOf(report).map(({ label }) => label))).toEqual(new Set(chosen));
  });

  it("are there where nothing can be rounded by the input of its layers", async () => {
    const { model, feeds } = makeDecoder();
    const table: TestModel = makeTestModel({
      feeds: { ids: int64Tensor([1, 4], [3, 1, 4, 1]) },
      nodes: [makeNode("Gather", ["words", "ids"], ["y"])],
      outputs: ["y"],
      initializers: { words: model.graph.initializers.get("words")! },
    });
    const { report } = await quantizeTestModel(engine, table, { ...gptq("same"), steps: ["bc"] }, [feeds]);
    expect(report.steps).toMatchObject([
      { name: "gptq", sites: [{ label: "y", kind: "skipped", reason: "rounded to nearest: y looks it up" }] },
      { name: "bc", sites: [{ label: "y", kind: "skipped" }] },
    ]);
    expect(report.trials).toEqual([]);
  });
});

describe("GPTQ layer by layer", () => {
  const linear = () => {
    const net = new NetworkWriter();
    let value = "x";
    for (const [i, [from, to]] of (
      [
        [6, 8],
        [8, 7],
        [7, 5],
      ] as const
    ).entries()) {
      value = net.node("Tanh", [net.linear(value, `linear${i}`, [from, to])], `hidden${i}`);
    }
    net.node("Gemm", [value, net.weight("last_w", [3, 5]), net.weight("last_b", [3])], "y", { transB: 1 });
    const feeds = { x: someFloats([5, 6]) };
    return makeTestModel({ feeds, nodes: net.nodes, outputs: ["y"], initializers: net.initializers });
  };
  const convolutional = () => {
    const net = new NetworkWriter();
    let value = net.relu(net.conv("x", "stem", [4, 2]));
    net.weight("depthwise_w", [4, 1, 3, 3]);
    value = net.relu(net.node("Conv", [value, "depthwise_w"], "depthwise", { group: 4, strides: [2, 2] }));
    net.weight("grouped_w", [6, 2, 2, 2]);
    value = net.relu(net.node("Conv", [value, "grouped_w"], "grouped", { group: 2, pads: [1, 0, 0, 1] }));
    net.conv(value, "y", [3, 6], 1);
    const feeds = { x: someFloats([1, 2, 7, 7]) };
    return makeTestModel({ feeds, nodes: net.nodes, outputs: ["y"], initializers: net.initializers });
  };
  type Case = readonly [target: RoundingTarget, about: string, weight: Weight, activation: Format["activation"]];
  const cases: readonly Case[] = [
    ["same", "activations in float", {}, "float"],
    ["same", "groups, activations of 4 bits", { granularity: "group:4" }, { bits: 4 }],
    ["unquantized", "activations of 8 bits", { granularity: "tensor" }, { bits: 8 }],
    ["unquantized", "activations of 4 bits", {}, { bits: 4 }],
    ["float", "groups, activations in float", { granularity: "group:4" }, "float"],
    ["float", "activations of 4 bits", {}, { bits: 4 }],
  ];

  describe.each([
    ["products", linear],
    ["convolutions", convolutional],
  ] as const)("in a network of %s", (_about, make) => {
    it.each(cases)("is what a person would do by hand: %s, %s", async (target, _format, weight, activation) => {
      const given = make();
      const samples = samplesLike(given, 9);
      const order = target === "unquantized" ? "natural" : "activation";
      const rounding = { use: "gptq", target, order } as const;
      // With fewer bits the grid of each row would be looked for, too.
      const recipe = gptq(target, { bits: 4, range: "minmax", ...weight, rounding }, activation);
      const { task, refine } = await prepareRefinement(engine, given, recipe, samples);
      const { model } = await refine();
      expect(task.quantized.unrounded).toHaveLength(4);
      for (const { plans, format } of task.quantized.unrounded) {
        const [{ layer }] = plans;
        const found = await fetchRows(engine, model, layer, samples[0]);
        const expected = await roundLayerSlowly(engine, task.float, model, layer, format, target, samples);
        const largest = Math.max(...expected.flat().map(Math.abs));
        for (const [r, row] of expected.entries()) {
          for (const [c, value] of row.entries()) {
            expect(Math.abs(found[r][c] - value), `${layer.node.outputs[0]} ${r} ${c}`).toBeLessThan(1e-4 * largest);
          }
        }
      }
    });
  });
});

describe("GPTQ on unusual samples", () => {
  it("takes a single sample", async () => {
    for (const make of [makeBranches, makeTransformer]) {
      const given = make();
      const { model, report } = await quantizeTestModel(engine, given, gptq("float", {}, { bits: 4 }));
      expectHonest(report);
      await expectFinite(model, samplesLike(given));
    }
  });

  it("takes samples of different shapes", async () => {
    const { model: fixed } = makeDecoder();
    const inputs = fixed.graph.inputs.map((input) => ({
      ...input,
      type: { kind: "tensor", elementType: "int64", shape: ["batch", "length"] } as const,
    }));
    const model = withGraph(fixed, buildGraph({ ...fixed.graph, inputs }));
    const samples = [1, 7, 3, 12, 7].map((length, i): Feeds => {
      const ids = Array.from({ length }, (_, k) => (37 * k + 11 * i) % 1000);
      return new Map([["ids", int64Tensor([1, length], ids)]]);
    });
    const quantized = await quantizeTestModel(engine, { model, feeds: samples[0] }, gptq("float", {}, {}), samples);
    expectHonest(quantized.report);
    await expectFinite(quantized.model, samples);
    expect(sitesOf(quantized.report).filter(({ kind }) => kind === "solved").length).toBeGreaterThan(10);
  });

  it.each([
    ["zeros", 0],
    ["one constant", 2.5],
    ["numbers far too small", 1e-25],
    ["large numbers", 1e6],
  ])("does no harm on %s", async (_about, value) => {
    for (const [make, target] of [
      [makeChain, "float"],
      [makeTransformer, "same"],
    ] as const) {
      const given = make();
      const samples = samplesLike(given).map(
        (feeds): Feeds =>
          new Map(
            [...feeds].map(([name, { shape }], i) => [
              name,
              float32Tensor(shape, new Array(shape.reduce((a, b) => a * b)).fill(value * (i + 1))),
            ]),
          ),
      );
      const { model, report } = await quantizeTestModel(engine, given, gptq(target, {}, { bits: 4 }), samples);
      expectHonest(report);
      await expectFinite(model, [...samples, ...samplesLike(given)]);
    }
  });

  it("rounds to nearest what never had an input", async () => {
    const net = new NetworkWriter();
    net.linear("x", "y", [6, 4]);
    const given = net.finish({ x: someFloats([1, 6]) }, ["y"]);
    const empty: Feeds = new Map([["x", float32Tensor([0, 6], [])]]);
    for (const target of ["same", "float"] as const) {
      const { model, report } = await quantizeTestModel(engine, given, gptq(target), [empty, empty]);
      const { model: nearest } = await quantizeTestModel(engine, given, toNearest, [empty]);
      expect(sitesOf(report)).toMatchObject([
        { kind: "solved", remark: "rounded to nearest: its input was empty on every sample" },
      ]);
      const [a, b] = [await runModel(engine, model, given.feeds), await runModel(engine, nearest, given.feeds)];
      expect(largestDifference(a, b)).toBe(0);
    }
  });

  it("rounds to nearest what has an input that is not finite", async () => {
    const net = new NetworkWriter();
    net.linear(net.node("Log", [net.node("Relu", ["x"], "cut")], "log"), "y", [6, 4]);
    const given = net.finish({ x: someFloats([1, 6]) }, ["y"]);
    for (const target of ["same", "float"] as const) {
      const { report } = await quantizeTestModel(engine, given, gptq(target), samplesLike(given));
      expect(sitesOf(report)).toMatchObject([
        { kind: "solved", remark: "rounded to nearest: its input is not finite" },
      ]);
    }
  });

  it.each(["same", "float"] as const)("names a weight that is not finite, target %s", async (target) => {
    const net = new NetworkWriter();
    net.linear(net.linear("x", "a", [6, 4]), "y", [4, 3]);
    const values = float32Values(net.initializers.a_w).slice();
    values[5] = Number.POSITIVE_INFINITY;
    net.constant("a_w", float32Tensor([6, 4], values));
    const given = net.finish({ x: someFloats([1, 6]) }, ["y"]);
    await expect(quantizeTestModel(engine, given, gptq(target))).rejects.toMatchObject({
      code: "model/not-finite",
      place: { field: "a_w" },
    });
  });
});

describe("GPTQ in whole networks", () => {
  const networks = [
    ["a residual network", () => makeResidualNet(1)],
    ["a transformer", makeTransformer],
    ["parallel branches", makeBranches],
  ] as const;

  it("gives the same bytes twice, and on two threads", async () => {
    const given = makeBranches();
    const samples = samplesLike(given, 5);
    const two = createRuntimeEngine({ threads: 2 });
    const recipe = { ...gptq("float", {}, { bits: 4 }), steps: ["bc"] };
    const results = [];
    for (const own of [engine, engine, two]) results.push(await quantizeTestModel(own, given, recipe, samples));
    await two.close();
    const [first, ...others] = results;
    for (const other of others) {
      expect(bytesOf(other.model)).toEqual(bytesOf(first.model));
      expect(JSON.stringify(other.report)).toBe(JSON.stringify(first.report));
    }
  });

  it.each(networks)("brings the outputs nearer to those of the float network: %s", async (_about, make) => {
    const given = make();
    const samples = samplesLike(given, 12);
    const float = await outputsOn(samples, given.model);
    const errorOf = async (recipe: RecipeInput) => {
      const { model } = await quantizeTestModel(engine, given, recipe, samples);
      return meanSquare(float, await outputsOn(samples, model));
    };
    expect(await errorOf(gptq("float"))).toBeLessThan(0.8 * (await errorOf(toNearest)));
  });
});
