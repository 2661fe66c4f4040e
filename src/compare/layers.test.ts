import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, type TestModelParts } from "../../test/models.js";
import { makeResidualNet } from "../../test/networks.js";
import { quantizeTestModel } from "../../test/quantizing.js";
import { roundWeights } from "../../test/walking.js";
import type { NamedFeeds } from "../engine/batch.js";
import type { Feeds } from "../engine/engine.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { buildGraph, type Graph } from "../graph/graph.js";
import { joinGraphs } from "../graph/join.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, floatTensor } from "../tensor/tensor.js";
import { compareLayers } from "./layers.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

async function* once(feeds: Feeds): AsyncIterable<NamedFeeds> {
  yield { id: "sample", feeds };
}

async function compared(reference: Model, model: Model, feeds: Feeds) {
  return compareLayers(engine, reference, model, await inferValueTypes(engine, reference), once(feeds));
}

/** x · w, then times two and to the power of two, in any operator set. */
function makeProduct(w: number, changes: Partial<TestModelParts> = {}) {
  return makeTestModel({
    feeds: { x: float32Tensor([1, 2], [3, 4]) },
    nodes: [
      { ...makeNode("MatMul", ["x", "w"], ["y"]), name: "product" },
      makeNode("Clip", ["y"], ["c"]),
      { ...makeNode("MatMul", ["c", "v"], ["z"]), name: "double" },
    ],
    outputs: ["z"],
    initializers: { w: float32Tensor([2, 2], [w, 0, 0, w]), v: float32Tensor([2, 2], [2, 0, 0, 2]) },
    ...changes,
  });
}

describe("compareLayers", () => {
  it("finds no noise between a model and itself", async () => {
    const { model, feeds } = makeResidualNet();
    const layers = await compared(model, model, feeds);
    expect(layers).toHaveLength(8);
    for (const { sqnrDb } of layers) expect(sqnrDb).toBe(Number.POSITIVE_INFINITY);
  });

  it("names layers and puts the worst first", async () => {
    const given = makeResidualNet();
    const layers = await compared(given.model, roundWeights(given.model), given.feeds);
    const ratios = layers.map(({ sqnrDb }) => sqnrDb);
    expect(ratios).toEqual([...ratios].sort((a, b) => a - b));
    expect(layers.map(({ value }) => value).sort()).toEqual(["a0", "a1", "a2", "b0", "b1", "b2", "stem", "y"]);
    expect(ratios.every((ratio) => ratio > 0 && ratio < 40)).toBe(true);
  });

  it("is the ratio in decibels", async () => {
    const { model, feeds } = makeProduct(1);
    expect(await compared(model, makeProduct(0.9).model, feeds)).toEqual([
      { name: "product", value: "y", sqnrDb: expect.closeTo(20, 4) },
      { name: "double", value: "z", sqnrDb: expect.closeTo(20, 4) },
    ]);
  });

  it("does not count infinities that both have", async () => {
    const v = float32Tensor([2, 2], [Number.POSITIVE_INFINITY, 0, 0, 2]);
    const [one, other] = [1, 0.9].map((w) =>
      makeProduct(w, { initializers: { w: float32Tensor([2, 2], [w, 0, 0, w]), v } }),
    );
    const layers = await compared(one.model, other.model, one.feeds);
    expect(layers.map(({ sqnrDb }) => sqnrDb)).toEqual([expect.closeTo(20, 4), expect.closeTo(20, 4)]);
  });

  it("puts a layer first that returns NaN", async () => {
    const { model, feeds } = makeProduct(1);
    const broken = makeProduct(0.9, {
      initializers: { w: float32Tensor([2, 2], [0.9, 0, 0, 0.9]), v: float32Tensor([2, 2], [Number.NaN, 0, 0, 2]) },
    });
    expect(await compared(model, broken.model, feeds)).toEqual([
      { name: "double", value: "z", sqnrDb: Number.NEGATIVE_INFINITY },
      { name: "product", value: "y", sqnrDb: expect.closeTo(20, 4) },
    ]);
  });

  it("compares a quantized model with the one it was made of", async () => {
    const given = makeResidualNet();
    const { model } = await quantizeTestModel(engine, given);
    const layers = await compared(given.model, model, given.feeds);
    expect(layers).toHaveLength(8);
    for (const { sqnrDb } of layers) expect(sqnrDb).toBeGreaterThan(20);
  });

  it.each([
    [11, 12],
    [11, 17],
    [21, 13],
    [12, 12],
  ])("compares models of operator sets %i and %i", async (left, right) => {
    const irVersion = 10;
    const { model, feeds } = makeProduct(1, { opset: left, irVersion });
    const layers = await compared(model, makeProduct(0.9, { opset: right, irVersion }).model, feeds);
    expect(layers.map(({ sqnrDb }) => Math.round(sqnrDb))).toEqual([20, 20]);
  });

  it("gives nothing where all values have other names", async () => {
    const { model, feeds } = makeProduct(1);
    const renamed = withGraph(model, joinGraphs(model.graph, "new/", emptied(model.graph), new Set(["x"])));
    expect(await compared(model, renamed, feeds)).toEqual([]);
  });

  it("keeps the weights apart that both list as inputs under one name", async () => {
    const { model, feeds } = makeProduct(1);
    const listed = ({ graph }: Model): Model => {
      const inputs = ["w", "v"].map((name) => ({
        name,
        type: { kind: "tensor", elementType: "float32", shape: [2, 2] } as const,
      }));
      return withGraph(model, buildGraph({ ...graph, inputs: [...graph.inputs, ...inputs] }));
    };
    const layers = await compared(listed(model), listed(makeProduct(0.9).model), feeds);
    expect(layers.map(({ sqnrDb }) => Math.round(sqnrDb))).toEqual([20, 20]);
  });

  it("minds no value that is named like the reference's", async () => {
    const { model, feeds } = makeProduct(1);
    const named = (given: Model) =>
      withGraph(given, joinGraphs(given.graph, "reference/", emptied(given.graph), new Set(["x"])));
    expect(await compared(named(model), named(makeProduct(0.9).model), feeds)).toHaveLength(2);
  });

  it("compares in half precision", async () => {
    const half = (value: number) => floatTensor("float16", [2, 2], [value, 0, 0, value]);
    const product = (value: number) =>
      makeProduct(1, {
        feeds: { x: floatTensor("float16", [1, 2], [3, 4]) },
        initializers: { w: half(value), v: half(2) },
      });
    const layers = await compared(product(1).model, product(0.9).model, product(1).feeds);
    expect(layers.map(({ sqnrDb }) => Math.round(sqnrDb))).toEqual([20, 20]);
  });
});

function emptied(graph: Graph): Graph {
  return buildGraph({ ...graph, nodes: [], inputs: [], outputs: [], initializers: new Map() });
}
