import { afterAll, describe, expect, it } from "vitest";
import { heavyTailedFeeds, someFloats, type TestModel } from "../test/models.js";
import { makeTransformer } from "../test/networks.js";
import {
  makeBlockPeer,
  makeDynamicPeer,
  makeOperatorPeer,
  makePictureNet,
  makeQdqPeer,
  makeRowNet,
  makeStranger,
} from "../test/peers.js";
import { quantizeTestModel } from "../test/quantizing.js";
import { compareOutputs } from "./compare/outputs.js";
import { compensateModel, stepNames } from "./compensation.js";
import { feedsSource } from "./data/array-source.js";
import { samplesFrom } from "./data/sample-source.js";
import type { Sample, Samples } from "./data/samples.js";
import { samplesOf } from "./data/samples-of.js";
import { type Engine, withSession } from "./engine/engine.js";
import { buildGraph } from "./graph/graph.js";
import { type Model, withGraph } from "./graph/model.js";
import { makeNode } from "./graph/node.js";
import { createRuntimeEngine } from "./node/runtime-engine.js";
import type { RecipeInput } from "./recipe/recipe.js";
import { float32Tensor, float32Values, integerValues, type Tensor } from "./tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

function samplesFor({ model, feeds }: TestModel, seed = 100, count = 24): Samples {
  const like = (i: number) =>
    // Above zero, as most activations are: then rounding down is an error that does not average out.
    Object.fromEntries([...feeds].map(([name, { shape }]) => [name, absolute(someFloats(shape, seed + i))]));
  return samplesOf(
    model,
    Array.from({ length: count }, (_, i) => like(i)),
  );
}

function absolute(tensor: Tensor): Tensor {
  return float32Tensor(tensor.shape, float32Values(tensor).map(Math.abs));
}

function compensate(float: TestModel, peer: TestModel, ...steps: readonly string[]) {
  return compensateOn(128, float, peer, ...steps);
}

function compensateOn(sampleCount: number, float: TestModel, peer: TestModel, ...steps: readonly string[]) {
  return compensateModel({
    float: float.model,
    quantized: peer.model,
    steps: steps.map((use) => ({ use })),
    samples: samplesFor(float),
    sampleCount,
    seed: 0,
    engine,
  });
}

/** Signal to error of the outputs, on samples that nobody has seen. */
async function signalDb(float: TestModel, model: Model): Promise<number> {
  const samples = samplesFor(float, 500);
  const read = (): AsyncIterable<Sample> => samples.read(Array.from({ length: samples.length }, (_, i) => i));
  const { sqnrDb } = await withSession(engine, float.model, { mode: "shipped" }, (reference) =>
    withSession(engine, model, { mode: "shipped" }, (other) => compareOutputs(reference, other, read())),
  );
  return sqnrDb;
}

/** Whole models return so many times what they compute. */
function scaling(inner: Engine, factorOf: (model: Model, mode: string | undefined) => number): Engine {
  return {
    name: inner.name,
    hold: (tensors) => inner.hold(tensors),
    release: (tensors) => inner.release(tensors),
    close: () => inner.close(),
    async open(model, options) {
      const session = await inner.open(model, options);
      const isWhole = options?.taps === undefined && options?.mode !== "exact";
      const factor = isWhole ? factorOf(model, options?.mode) : 1;
      const scale = (tensor: Tensor) =>
        float32Tensor(
          tensor.shape,
          float32Values(tensor).map((value) => value * factor),
        );
      return {
        ...{ inputs: session.inputs, outputs: session.outputs, loadMs: session.loadMs },
        runAndHold: (feeds, values) => session.runAndHold(feeds, values),
        close: () => session.close(),
        async run(feeds, fetch) {
          const { outputs, elapsedMs } = await session.run(feeds, fetch);
          if (factor === 1) return { outputs, elapsedMs };
          return { outputs: new Map([...outputs].map(([name, tensor]) => [name, scale(tensor)])), elapsedMs };
        },
      };
    },
  };
}

const addOperators = ["qwt", "nbc", "cat"];

describe("compensateModel", () => {
  it.each([
    ["Q/DQ pairs", makePictureNet(), makeQdqPeer(), ["ranges", "bc"], 3],
    ["operators on codes", makePictureNet(), makeOperatorPeer(), ["ranges", "bc"], 3],
    ["dynamic quantization", makeRowNet(), makeDynamicPeer(), ["bc"], 3],
    ["weights in blocks", makeRowNet(), makeBlockPeer(), ["bc"], 3],
  ] as const)(
    "brings %s closer to the float model on samples that nobody has seen",
    async (_, float, peer, steps, layers) => {
      const { model, report } = await compensate(float, peer, ...steps);
      expect(report).toMatchObject({ isChanged: true, layers, aligned: { layers }, unaligned: [] });
      const [before, after] = [await signalDb(float, peer.model), await signalDb(float, model)];
      expect(after).toBeGreaterThan(before + 1);
    },
  );

  it.each([
    ["bc", makeQdqPeer("biases")],
    ["ranges", makeQdqPeer()],
    ["bc", makeOperatorPeer("biases")],
    ["ranges", makeOperatorPeer()],
  ] as const)("changes constants only, by %s", async (step, peer) => {
    const { model, report } = await compensate(makePictureNet(), peer, step);
    expect(report.isChanged).toBe(true);
    expect(model.graph.nodes).toEqual(peer.model.graph.nodes);
    // The same objects: a writer copies their bytes.
    const same = model.graph.nodes.filter((node, i) => node === peer.model.graph.nodes[i]);
    expect(same).toHaveLength(peer.model.graph.nodes.length);
    expect([...model.graph.initializers.keys()]).toEqual([...peer.model.graph.initializers.keys()]);
  });

  it("keeps int32 biases in the unit of the integer kernel when a scale changes", async () => {
    const { model } = await compensate(makePictureNet(), makeQdqPeer(), "ranges");
    const numberOf = (name: string) => (model.graph.initializers.get(name) as Tensor).bytes();
    const read = (name: string) => new Float32Array(numberOf(name).slice().buffer)[0];
    expect(read("b2_quantized_scale")).toBeCloseTo(read("r1_scale") * read("w2_scale"), 8);
    expect(read("r1_scale")).toBeGreaterThan(1.5 / 255);
    expect(integerValues(model.graph.initializers.get("r1_zero_point") as Tensor)).toEqual([0]);
  });

  it.each(stepNames)(
    "takes %s through models of every format, and never makes them worse on what was held back",
    async (step) => {
      const peers = [
        [makePictureNet(), makeQdqPeer()],
        [makePictureNet(), makeOperatorPeer()],
        [makeRowNet(), makeDynamicPeer()],
        [makeRowNet(), makeBlockPeer()],
      ] as const;
      for (const [float, peer] of peers) {
        const { model, report } = await compensate(float, peer, step);
        expect(report.results.map(({ name }) => name)).toEqual([step]);
        expect(report.isChanged).toBe(model !== peer.model);
        const [given, ...tried] = report.trials;
        const isClassifier = float.model.graph.outputs.length === 1 && peer.feeds.get("x")?.shape.length === 4;
        const isBetter = tried.some(({ kl, sqnrDb }) => (isClassifier ? kl < given.kl : sqnrDb > given.sqnrDb));
        // What adds operators has to be better by more than chance.
        if (addOperators.includes(step)) expect([isBetter, false]).toContain(report.isChanged);
        else expect(report.isChanged).toBe(isBetter);
      }
    },
  );

  it("holds a nonlinear compensation against the linear one, where it is not linear itself", async () => {
    const given = makeTransformer();
    const { model } = given;
    const feeds = heavyTailedFeeds(given, 40);
    const low: RecipeInput = { formats: [{ weight: { bits: 4 }, activation: { bits: 8 } }] };
    const peer = await quantizeTestModel(engine, given, low, feeds.slice(0, 2));
    const samples = samplesFrom(feedsSource(feeds, "test"), model.graph.inputs);
    const run = (alpha: number | "auto") =>
      compensateModel({
        ...{ float: model, quantized: peer.model, steps: [{ use: "bc" }, { use: "nbc", budget: 3, alpha }] },
        ...{ samples, sampleCount: 40, seed: 0, engine },
      });
    const { report } = await run("auto");
    const { report: linear } = await run(0);
    const [, simpler] = linear.trials;
    expect(simpler.steps).toEqual(["bc", "nbc:budget=3:alpha=0"]);
    const others = [[], ["bc", "nbc:budget=3"], ["nbc:budget=3"], ["bc"]];
    expect(report.trials.map(({ steps }) => steps)).toEqual([
      ...others,
      simpler.steps,
      // The other target is tried whether the step stays or not, in the form that is there.
      ["bc", "nbc:rho=0:budget=3:alpha=0"],
    ]);
    expect(report.trials[4]).toEqual(simpler);
    expect(linear.trials).toHaveLength(5);
    // By signal to error: what leaves the network has three axes.
    const best = Math.max(...report.trials.map(({ sqnrDb }) => sqnrDb));
    expect(best).toBe(simpler.sqnrDb);
    expect(report.results).toEqual(linear.results);
  });

  it("gives the model back where no step helps", async () => {
    const peer = makeDynamicPeer();
    const { model, report } = await compensate(makeRowNet(), peer, "ranges");
    expect(model).toBe(peer.model);
    expect(report).toMatchObject({ isChanged: false, results: [{ name: "ranges", sites: [], kept: false }] });
    expect(report.trials.map(({ steps, taken }) => [steps, taken])).toEqual([
      [[], true],
      [["ranges:range=mse"], false],
      [["ranges:range=minmax"], false],
    ]);
  });

  it("says of a step that it left out what that could not do, and which trial it took", async () => {
    const { report } = await compensate(makeRowNet(), makeDynamicPeer(), "qwt", "bc");
    expect(report.results.map(({ name, kept }) => [name, kept])).toEqual([
      ["bc", true],
      ["qwt", false],
    ]);
    const { report: twice } = await compensate(makeRowNet(), makeDynamicPeer(), "qwt", "bc", "qwt");
    expect(twice.results.map(({ name, kept }) => [name, kept])).toEqual([
      ["bc", true],
      ["qwt", false],
      ["qwt", false],
    ]);
    const [, dropped] = report.results;
    expect(dropped.sites).toContainEqual({
      label: "y",
      kind: "skipped",
      reason: "it ends in the outputs of the network",
    });
    expect(report.trials.filter(({ taken }) => taken).map(({ steps }) => steps)).toEqual([["bc"]]);
  });

  it.each([
    [1, 0, "1 sample is too few to hold some back: the trial is on what was fitted"],
    [3, 0, "3 samples are too few to hold some back: the trial is on what was fitted"],
    [4, 1, undefined],
  ])("tells whether any of %i samples is held back", async (count, held, warning) => {
    const { report } = await compensateOn(count, makePictureNet(), makeQdqPeer(), "bc");
    expect(report.held).toBe(held);
    expect(report.warnings.find((text) => text.includes("too few"))).toBe(warning);
  });

  it.each([
    [1, true, ["ranges,bc"]],
    [Number.POSITIVE_INFINITY, false, ["ranges,bc", "bc", "ranges"]],
  ])(
    "takes what comes next where the runtime computes something else than is written, %s times",
    async (times, isChanged, refused) => {
      const peer = makeQdqPeer();
      const faulty = new Set<Model>();
      const scaled = (model: Model, mode: string | undefined): number => {
        if (model === peer.model) return 0.1;
        if (!model.graph.nodes.some(({ opType }) => opType === "DequantizeLinear")) return 1;
        if (mode === "plain" && faulty.size < times) faulty.add(model);
        return mode === "plain" && faulty.has(model) ? 1 : 0.6;
      };
      const { model, report } = await compensateModel({
        ...{ float: makePictureNet().model, quantized: peer.model, steps: [{ use: "ranges" }, { use: "bc" }] },
        ...{ samples: samplesFor(makePictureNet()), sampleCount: 24, seed: 0, engine: scaling(engine, scaled) },
      });
      expect(report.isChanged).toBe(isChanged);
      expect(model === peer.model).toBe(!isChanged);
      const told = report.warnings.filter((text) => text.includes("is not taken: at its default options"));
      expect(told.map((text) => text.split(" came out best")[0].replace(/:range=\w+/, ""))).toEqual(
        expect.arrayContaining(refused),
      );
      if (isChanged) expect(told).toHaveLength(1);
      else expect(told).toHaveLength(report.trials.length - 1);
      const taken = report.trials.filter((trial) => trial.taken).map(({ steps }) => steps.join());
      for (const text of told) expect(text.startsWith(`${taken[0]} `)).toBe(false);
    },
  );

  it("is deterministic", async () => {
    const [first, second] = [
      await compensate(makePictureNet(), makeOperatorPeer(), "ranges", "bc"),
      await compensate(makePictureNet(), makeOperatorPeer(), "ranges", "bc"),
    ];
    expect(first.report).toEqual(second.report);
    const bytesOf = ({ model }: typeof first) => [...model.graph.initializers].map(([name, t]) => [name, t.bytes()]);
    expect(bytesOf(first)).toEqual(bytesOf(second));
  });

  it("says which operators it could not align, and compensates the others", async () => {
    const { model, feeds } = makeQdqPeer();
    const { graph } = model;
    // Somebody has put the mean of two axes in the place of the pooling: another operator.
    const nodes = graph.nodes.map((node) =>
      node.opType === "GlobalAveragePool"
        ? makeNode("ReduceMean", node.inputs, node.outputs, { axes: [2, 3] }, node.name)
        : node,
    );
    const other = { model: withGraph(model, buildGraph({ ...graph, nodes })), feeds };
    const { report } = await compensate(makePictureNet(), other, "bc");
    expect(report.unaligned).toContainEqual({
      label: "g",
      reason: "no GlobalAveragePool of the quantized model reads the same and gives [n, 4, 1, 1]",
    });
    expect(report.aligned.layers).toBeGreaterThanOrEqual(2);
  });

  it.each([
    [
      "the float model given twice",
      makePictureNet(),
      makePictureNet(),
      "compensate/nothing-to-do",
      /what the float model/,
    ],
    [
      "a model of other inputs",
      makeRowNet(),
      renamedInput(),
      "compensate/mismatch",
      /^takes z where the float model takes x$/,
    ],
    [
      "a model of other outputs",
      makePictureNet(),
      renamedOutput(),
      "compensate/mismatch",
      /^returns z where the float/,
    ],
    ["another network", makePictureNet(), makeStranger(), "compensate/mismatch", /^was not made from the float model/],
    [
      "the two in the wrong order",
      makeQdqPeer(),
      makePictureNet(),
      "compensate/mismatch",
      /the float model comes first/,
    ],
  ] as const)("refuses %s", async (_, float, peer, code, message) => {
    await expect(compensate(float, peer, "bc")).rejects.toMatchObject({
      code,
      exitCode: 2,
      message: expect.stringMatching(message),
    });
  });
});

function renamedInput(): TestModel {
  const made = makeRowNet();
  const { graph } = made.model;
  const inputs = graph.inputs.map((input) => ({ ...input, name: "z" }));
  const nodes = graph.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map((name) => (name === "x" ? "z" : name)),
  }));
  return { ...made, model: withGraph(made.model, buildGraph({ ...graph, inputs, nodes })) };
}

function renamedOutput(): TestModel {
  const made = makeQdqPeer();
  const { graph } = made.model;
  const outputs = graph.outputs.map((output) => ({ ...output, name: "z" }));
  const nodes = graph.nodes.map((node) => ({
    ...node,
    outputs: node.outputs.map((name) => (name === "y" ? "z" : name)),
  }));
  return { ...made, model: withGraph(made.model, buildGraph({ ...graph, outputs, nodes })) };
}
