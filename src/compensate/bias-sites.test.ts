import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, runModel, someFloats, type TestModel } from "../../test/models.js";
import { makeBranches, makeResidualNet, makeStemless, makeTransformer } from "../../test/networks.js";
import { prepareWalk, roundWeights, stepNamed, walkThrough } from "../../test/walking.js";
import type { Feeds } from "../engine/engine.js";
import { buildGraph } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { AnyStep } from "../step/open-step.js";
import type { OptionValues } from "../step/options.js";
import { float32Tensor, float32Values, int64Tensor, type Tensor } from "../tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const biasWith = (options: OptionValues): AnyStep => ({
  ...stepNamed("bc"),
  open: (context) => stepNamed("bc").open(context, options),
});

const valuesOf = (model: Model, name: string) => [...float32Values(model.graph.initializers.get(name) as Tensor)];

function withConstants(model: Model, constants: Readonly<Record<string, Tensor>>): Model {
  const initializers = new Map([...model.graph.initializers, ...Object.entries(constants)]);
  return withGraph(model, buildGraph({ ...model.graph, initializers }));
}

const samplesFor = ({ feeds }: TestModel): readonly Feeds[] => {
  const [[name, { shape }]] = feeds;
  return Array.from({ length: 6 }, (_, i): Feeds => new Map([[name, someFloats(shape, 40 + i)]]));
};

async function placesOf(test: TestModel, options: OptionValues) {
  const { context } = await prepareWalk(engine, test.model, roundWeights(test.model), samplesFor(test));
  const { sites, unusable } = biasWith(options).open(context);
  return { labels: sites.map(({ label }) => label), unusable };
}

describe("what a place reads and what it is held against, by hand", () => {
  // y = (x w + a) v + b: of 2 the quantized w makes 1 less, of 4 two less; v halves.
  const scalar = (value: number) => float32Tensor([1, 1], [value]);
  const float = makeTestModel({
    feeds: { x: scalar(0) },
    shapes: { x: ["n", 1] },
    nodes: [makeNode("Gemm", ["x", "w", "a"], ["m"]), makeNode("Gemm", ["m", "v", "b"], ["y"])],
    outputs: ["y"],
    initializers: {
      w: scalar(2),
      v: scalar(3),
      a: float32Tensor([1], [10]),
      b: float32Tensor([1], [20]),
    },
  }).model;
  const current = withConstants(float, { w: scalar(1.5), v: scalar(2) });
  const fed = [2, 4].map((x): Feeds => new Map([["x", scalar(x)]]));
  const biasesWith = async (options: OptionValues) => {
    const { model, records } = await walkThrough(engine, float, current, fed, biasWith(options));
    return { a: valuesOf(model, "a"), b: valuesOf(model, "b"), records };
  };

  it("sees by default what arrives from earlier layers", async () => {
    // m: 14 and 18 wanted, 13 and 16 given, so a gets 1.5 more: 14.5 and 17.5. y: 62 and 74 wanted; 49 and 55 given.
    expect(await biasesWith({})).toMatchObject({ a: [11.5], b: [36] });
  });

  it("takes a layer by itself on the float network's inputs", async () => {
    // y: 62 and 74 wanted; of 14 and 18 the quantized layer makes 48 and 56.
    const { a, b, records } = await biasesWith({ inputs: "float" });
    expect([a, b]).toEqual([[11.5], [36]]);
    // Errors 14 and 18: 4 / 4 are left of their mean square 260.
    expect(records[1]).toMatchObject({ errorBefore: 260, errorAfter: 4 });
  });

  it("takes the float layer on the quantized network's inputs as the target", async () => {
    // Of 14.5 and 17.5 the float layer makes 63.5 and 72.5, the quantized one 49 and 55: errors 14.5 and 17.5.
    const { a, b, records } = await biasesWith({ target: "local" });
    expect([a, b]).toEqual([[11.5], [36]]);
    expect(records[1]).toMatchObject({ errorBefore: (14.5 ** 2 + 17.5 ** 2) / 2, errorAfter: 2.25 });
  });

  it("tells which of them matter where earlier layers stay wrong", async () => {
    // With a nonlinear layer between, what arrives differs on average.
    const squared = withGraph(
      float,
      buildGraph({
        ...float.graph,
        nodes: [
          makeNode("Gemm", ["x", "w", "a"], ["m"]),
          makeNode("Mul", ["m", "m"], ["s"]),
          makeNode("Gemm", ["s", "v", "b"], ["y"]),
        ],
      }),
    );
    const other = withConstants(squared, { w: scalar(1.5), v: scalar(2) });
    const biasOf = async (options: OptionValues) => {
      const { model } = await walkThrough(engine, squared, other, fed, biasWith(options));
      return valuesOf(model, "b")[0] - 20;
    };
    // m after compensation: 14.5 and 17.5 for 14 and 18. Squares: 210.25, 306.25 for 196, 324.
    expect(await biasOf({})).toBeCloseTo((3 * 196 - 2 * 210.25 + 3 * 324 - 2 * 306.25) / 2, 3);
    expect(await biasOf({ inputs: "float" })).toBeCloseTo((196 + 324) / 2, 3);
    expect(await biasOf({ target: "local" })).toBeCloseTo((210.25 + 306.25) / 2, 3);
  });
});

describe("the token that the head reads", () => {
  // Four tokens of two channels; the head reads the second one.
  const values = float32Tensor([1, 4, 2], [1, 2, 5, -3, 1, 2, 1, 2]);
  const float = makeTestModel({
    feeds: { x: values },
    shapes: { x: ["n", 4, 2] },
    nodes: [
      makeNode("MatMul", ["x", "w"], ["m"]),
      makeNode("Add", ["m", "b"], ["biased"]),
      makeNode("Add", ["biased", "x"], ["s"]),
      makeNode("MatMul", ["s", "u"], ["n"]),
      makeNode("Add", ["n", "s"], ["t"]),
      makeNode("Gather", ["t", "second"], ["picked"], { axis: 1 }),
      makeNode("Gemm", ["picked", "v"], ["y"]),
    ],
    outputs: ["y"],
    initializers: {
      w: float32Tensor([2, 2], [2, 0, 0, 2]),
      b: float32Tensor([2], [0, 0]),
      u: float32Tensor([2, 2], [0, 1, 1, 0]),
      v: float32Tensor([2, 2], [1, 0, 0, 1]),
      second: int64Tensor([], [1]),
    },
  }).model;
  const current = withConstants(float, { w: float32Tensor([2, 2], [1, 0, 0, 1]) });
  const biasWithToken = async (options: OptionValues) => {
    const { model } = await walkThrough(engine, float, current, [new Map([["x", values]])], biasWith(options));
    return valuesOf(model, "b");
  };

  it("counts as much as all others, as often as it is told, or as one", async () => {
    // Errors are x itself: 1, 5, 1, 1 and 2, -3, 2, 2.
    const means = (weight: number) => [(3 + weight * 5) / (3 + weight), (6 - weight * 3) / (3 + weight)];
    for (const [token, weight] of [
      ["auto", 4],
      [2, 2],
      [1, 1],
    ] as const) {
      const found = await biasWithToken({ token });
      for (const [channel, mean] of means(weight).entries()) expect(found[channel]).toBeCloseTo(mean, 5);
    }
  });

  it("is one of many where every position has a bias of its own", async () => {
    const { model } = await walkThrough(
      engine,
      float,
      current,
      [new Map([["x", values]])],
      biasWith({ bias: "position", token: 3 }),
    );
    const added = [...model.graph.initializers].find(([, { shape }]) => shape.join() === "4,2");
    expect([...float32Values(added?.[1] as Tensor)]).toEqual([...float32Values(values)]);
  });
});

describe("the places of a bias", () => {
  it("are found by structure in a transformer", async () => {
    const transformer = makeTransformer();
    const labels = async (places: string) => (await placesOf(transformer, { places })).labels;
    expect(await labels("attention")).toEqual(["attention of attended0", "attention of attended1"]);
    expect(await labels("mlp")).toEqual(["mlp of layer0", "mlp of layer1"]);
    expect(await labels("blocks")).toEqual(["block of layer0", "block of layer1"]);
    expect(await labels("output")).toEqual(["output y"]);
    expect((await labels("all")).length).toBe((await labels("layers")).length + 7);
  });

  it("are blocks and outputs in a network of convolutions", async () => {
    const residual = makeResidualNet();
    expect((await placesOf(residual, { places: "attention" })).labels).toEqual([]);
    expect((await placesOf(residual, { places: "blocks" })).labels).toEqual([
      "block of block0",
      "block of block1",
      "block of block2",
    ]);
    const { unusable } = await placesOf(residual, { places: "blocks" });
    expect(unusable).toEqual([
      { label: "block of stem", reason: "it is the stem: nothing leads around its layers" },
      { label: "block of y", reason: "it ends in the outputs of the network" },
    ]);
  });

  it.each<OptionValues>([{}, { inputs: "float" }, { target: "local" }])(
    "begin with what the network is fed: %j",
    async (options) => {
      const stemless = makeStemless();
      const given = Array.from({ length: 8 }, (_, i): Feeds => new Map([["x", someFloats([4, 4], 40 + i)]]));
      const step = biasWith({ places: "blocks", ...options });
      const { model, records } = await walkThrough(engine, stemless.model, roundWeights(stemless.model), given, step);
      const blocks = records.filter(({ label }) => label !== "block of y_product");
      expect(blocks.map(({ label }) => label)).toEqual(["block of block0", "block of block1", "block of block2"]);
      expect(blocks[0]).toMatchObject({ kind: "solved" });
      expect(valuesOf(model, "narrow0_b")).not.toEqual(valuesOf(stemless.model, "narrow0_b"));
    },
  );

  it("put the bias into the last layer of a residual branch, before the activation function", async () => {
    const residual = makeResidualNet();
    const current = roundWeights(residual.model);
    const step = biasWith({ places: "blocks" });
    const { model, records } = await walkThrough(engine, residual.model, current, samplesFor(residual), step);
    expect(model.graph.nodes.map(({ opType }) => opType)).toEqual(current.graph.nodes.map(({ opType }) => opType));
    const changed = [...model.graph.initializers].filter(
      ([name, tensor]) => current.graph.initializers.get(name) !== tensor,
    );
    expect(changed.length).toBeGreaterThan(0);
    for (const [name] of changed) expect(name).toMatch(/^b\d_b$/);
    for (const record of records.filter(({ kind }) => kind === "solved")) {
      expect(record).toMatchObject({ remark: expect.stringMatching(/^error 0\.\d+ on samples held back$/) });
    }
  });

  it("get an Add of their own where no layer ends them", async () => {
    const joined = makeBranches();
    const current = roundWeights(joined.model);
    const step = biasWith({ places: "blocks" });
    const { model, records } = await walkThrough(engine, joined.model, current, samplesFor(joined), step);
    const solved = records.filter(({ kind }) => kind === "solved").length;
    expect(solved).toBeGreaterThan(0);
    expect(model.graph.nodes.length).toBe(current.graph.nodes.length + solved);
    expect(model.graph.producer("joined0")?.opType).toBe("Add");
  });

  it("lose nothing on samples that nobody has seen, one after the other", async () => {
    const transformer = makeTransformer();
    const current = roundWeights(transformer.model);
    const step = biasWith({ places: "all", target: "local" });
    const given = samplesFor(transformer);
    const { model, records } = await walkThrough(engine, transformer.model, current, given, step);
    expect(new Set(records.map(({ label }) => label)).size).toBe(records.length);
    const errorOf = async (quantized: Model) => {
      let sum = 0;
      for (const seed of [70, 71, 72, 73]) {
        const feeds = new Map([["x", someFloats([1, 3, 6], seed)]]);
        const [wanted, found] = await Promise.all(
          [transformer.model, quantized].map((one) => runModel(engine, one, feeds)),
        );
        const values = [wanted, found].map((outputs) => float32Values(outputs.get("y") as Tensor));
        for (const [i, value] of values[0].entries()) sum += (value - values[1][i]) ** 2;
      }
      return sum;
    };
    expect(await errorOf(model)).toBeLessThan(await errorOf(current));
  });

  /** y = x · w + b, whose w of ones is lost: what is missing of each value is x. */
  const onesLost = async (columns: number) => {
    const ofValue = (value: number) => new Array<number>(columns).fill(value);
    const float = makeTestModel({
      feeds: { x: float32Tensor([1, 1], [0]) },
      nodes: [makeNode("Gemm", ["x", "w", "b"], ["y"])],
      outputs: ["y"],
      initializers: { w: float32Tensor([1, columns], ofValue(1)), b: float32Tensor([columns], ofValue(0)) },
    }).model;
    const current = withConstants(float, { w: float32Tensor([1, columns], ofValue(0)) });
    const fed = [1, -0.9, 1, -0.9].map((x): Feeds => new Map([["x", float32Tensor([1, 1], [x])]]));
    const { model, records } = await walkThrough(engine, float, current, fed, biasWith({ places: "output" }));
    expect(model.graph).toBe(current.graph);
    return records;
  };

  it("stay as they are where a bias is no better on samples held back", async () => {
    // 1 is missing on the one half of the samples, −0.9 on the other: 2 · 1.9² instead of 1 + 0.9².
    const ratio = (2 * 1.9 ** 2) / (1 + 0.9 ** 2);
    const reason = `on samples held back its error would be ${ratio.toFixed(3)} times what it is`;
    expect(await onesLost(2)).toEqual([{ label: "output y", kind: "skipped", reason }]);
  });

  it("are no outputs of one value", async () => {
    const reason = "it has no more than one value a sample";
    expect(await onesLost(1)).toEqual([{ label: "output y", kind: "skipped", reason }]);
  });
});
