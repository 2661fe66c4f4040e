import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModelParts } from "../../test/models.js";
import { quantizeTestModel, runShipped } from "../../test/quantizing.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { findLayers } from "../operators/index.js";
import { float32Values, floatTensor, int64Tensor } from "../tensor/tensor.js";
import { chooseLayers, type LayerChoice, type LayerWish } from "./choose-layers.js";
import type { WeightFormat } from "./format.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const perChannel: WeightFormat = { bits: 8, symmetric: true, granularity: { kind: "per-channel" } };

function wish(weight: Partial<WeightFormat> = {}, isInteger = true): LayerWish {
  const activation = isInteger ? ({ bits: 8, symmetric: false } as const) : "float";
  return { kind: "quantize", weight: { ...perChannel, ...weight }, activation };
}

/** @param wishes by the name of the node; what is not named gets the wish for all */
async function choose(
  parts: TestModelParts,
  forAll: LayerWish = wish(),
  wishes: Readonly<Record<string, LayerWish>> = {},
): Promise<LayerChoice> {
  const { graph } = makeTestModel(parts).model;
  const types = await inferValueTypes(engine, makeTestModel(parts).model);
  return chooseLayers(graph, types, findLayers(graph, types), (node) => wishes[node.name] ?? forAll);
}

const matrix = someFloats([3, 6]);
const picture = someFloats([1, 4, 6, 6]);
const float = (value: number) => ({ kind: "float", value }) as const;

/** Two products of the same weight, the second one with the weight turned around where its input says so. */
function sharing(isTurned: boolean): TestModelParts {
  return {
    feeds: { x: matrix, v: someFloats(isTurned ? [3, 5] : [2, 6], 2) },
    nodes: [
      makeNode("MatMul", ["x", "w"], ["y"]),
      makeNode("Transpose", ["w"], ["t"]),
      makeNode("MatMul", ["v", isTurned ? "t" : "w"], ["z"]),
      makeNode("Neg", ["t"], ["n"]),
    ],
    initializers: { w: someFloats([6, 5], 3) },
    outputs: ["y", "z", "n"],
  };
}

describe("layers that share a weight", () => {
  it("stay in float together, and say why", async () => {
    const choice = await choose(sharing(false), wish(), { z: { kind: "skip", reason: "nobody wants it" } });
    expect(choice.layers).toEqual([]);
    const reasons = choice.skipped.map(({ node, reason }) => `${node.name}: ${reason}`);
    expect(reasons).toEqual([
      "y: nobody wants it (z reads the same weight)",
      "z: nobody wants it (z reads the same weight)",
    ]);
  });

  it("get the format of the first, and say so", async () => {
    const choice = await choose(sharing(false), wish({ bits: 4 }), { z: wish({ bits: 2 }) });
    expect(choice.layers.map((plan) => plan.weight.bits)).toEqual([4, 4]);
    for (const { remarks } of choice.layers) expect(remarks).toEqual([expect.stringContaining("the format of y")]);
  });

  it("get one scale where their channels lie along different axes", async () => {
    const choice = await choose(sharing(true), wish({ granularity: { kind: "per-group", groupSize: 2 } }));
    for (const { weight, activation, remarks } of choice.layers) {
      expect(weight.granularity).toEqual({ kind: "per-tensor" });
      expect(remarks).toEqual([expect.stringContaining("one scale for the whole weight")]);
      expect(activation).not.toBe("float");
    }
  });

  it("are symmetric at 8 bits where one of them is computed on integers", async () => {
    const choice = await choose(sharing(false), wish({ symmetric: false }, false), { z: wish({ symmetric: false }) });
    for (const { weight, remarks } of choice.layers) {
      expect(weight.symmetric).toBe(true);
      expect(remarks).toEqual([expect.stringContaining("symmetric weights")]);
    }
    const inFloat = await choose(sharing(false), wish({ symmetric: false }, false));
    expect(inFloat.layers.map(({ weight }) => weight.symmetric)).toEqual([false, false]);
  });
});

describe("a table that is the last layer's weight too", () => {
  const rows = int64Tensor([1, 3], [5, 0, 63]);
  const test = makeTestModel({
    opset: 13,
    feeds: { i: rows },
    nodes: [
      makeNode("Gather", ["w", "i"], ["e"]),
      makeNode("Tanh", ["e"], ["h"]),
      makeNode("Transpose", ["w"], ["t"], { perm: [1, 0] }),
      makeNode("MatMul", ["h", "t"], ["y"]),
    ],
    initializers: { w: someFloats([64, 64], 2) },
    outputs: ["y"],
  });
  const cases = (["packed", "int8", "onnx"] as const).flatMap((storage) =>
    ([8, 4, 2] as const).flatMap((bits) => [true, false].map((symmetric) => ({ storage, bits, symmetric }))),
  );

  it.each(cases)("stands once for both: $storage, $bits bits, symmetric $symmetric", async (given) => {
    const { storage, bits, symmetric } = given;
    const { model } = await quantizeTestModel(engine, test, { storage, formats: [{ weight: { bits, symmetric } }] });
    const stored = [...model.graph.initializers.values()].reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
    const codeBits = storage === "int8" ? 8 : storage === "onnx" && bits === 2 ? 4 : bits;
    // Codes, twice a scale and at most a zero point for each row, and small change.
    expect(stored).toBeLessThan((64 * 64 * codeBits) / 8 + 64 * (4 + 4 + 4) + 256);
    const exact = await runModel(engine, model, test.feeds);
    const tolerance = { 8: 0.02, 4: 0.2, 2: 0.8 }[bits];
    expect(largestDifference(await runModel(engine, test.model, test.feeds), exact)).toBeLessThan(tolerance);
    expect(largestDifference(exact, await runShipped(engine, model, test.feeds))).toBeLessThan(0.01);
  });
});

describe("a product of activations", () => {
  const product = (type: "float32" | "float16" | "float64") => {
    const operand = (seed: number) => floatTensor(type, [3, 3], float32Values(someFloats([3, 3], seed)));
    const nodes = [makeNode("MatMul", ["x", "v"], ["y"])];
    return { feeds: { x: operand(1), v: operand(2) }, nodes, outputs: ["y"] };
  };

  it("stays in float where it is not of float32, and says why", async () => {
    expect((await choose(product("float32"))).products).toHaveLength(1);
    for (const type of ["float16", "float64"] as const) {
      const { products, skipped } = await choose(product(type));
      expect(products).toEqual([]);
      expect(skipped.map(({ reason }) => reason)).toEqual([
        `onnxruntime has no integer kernels for products in ${type}`,
      ]);
    }
    expect((await choose(product("float16"), wish({}, false))).skipped).toEqual([]);
  });

  it("is not spoken of where it is of integers", async () => {
    const operand = int64Tensor([2, 2], [1, 2, 3, 4]);
    const nodes = [makeNode("MatMul", ["x", "v"], ["y"])];
    const choice = await choose({ feeds: { x: operand, v: operand }, nodes, outputs: ["y"] });
    expect(choice).toEqual({ layers: [], products: [], skipped: [] });
  });
});

describe("a layer stays in float", () => {
  const half = (shape: readonly number[]) => floatTensor("float16", shape, float32Values(someFloats(shape, 4)));
  const gemm = (bias: readonly string[], attributes = {}): Pick<TestModelParts, "nodes" | "outputs"> => ({
    nodes: [makeNode("Gemm", ["x", "w", ...bias], ["y"], attributes)],
    outputs: ["y"],
  });
  const conv = (
    bias: readonly string[],
    ...more: TestModelParts["nodes"]
  ): Pick<TestModelParts, "nodes" | "outputs"> => ({
    nodes: [makeNode("Conv", ["x", "w", ...bias], ["a"]), ...more],
    outputs: more.length === 0 ? ["a"] : ["y"],
  });
  const kernel = { feeds: { x: picture }, initializers: { w: someFloats([3, 4, 2, 2], 2) } };
  const square = {
    feeds: { x: someFloats([4, 4]) },
    initializers: { w: someFloats([4, 4], 2), b: someFloats([4, 1], 3) },
  };

  it.each<readonly [about: string, reason: RegExp, parts: TestModelParts]>([
    ["for a Conv that returns the output", /output of the model/, { ...kernel, ...conv([]) }],
    [
      "for a Conv whose Relu returns the output",
      /output of the model/,
      { ...kernel, ...conv([], makeNode("Relu", ["a"], ["y"])) },
    ],
    [
      "for a Conv with a computed bias",
      /bias that is computed/,
      { ...kernel, feeds: { x: picture, b: someFloats([3]) }, ...conv(["b"], makeNode("Tanh", ["a"], ["y"])) },
    ],
    [
      "for ConvTranspose",
      /ConvTranspose/,
      {
        ...kernel,
        nodes: [makeNode("ConvTranspose", ["x", "w"], ["y"])],
        outputs: ["y"],
        initializers: { w: someFloats([4, 3, 2, 2]) },
      },
    ],
    ["for Gemm with transA", /transA/, { ...square, ...gemm([], { transA: 1 }) }],
    ["for Gemm with alpha", /alpha/, { ...square, ...gemm([], { alpha: float(2) }) }],
    ["for Gemm with beta", /beta/, { ...square, ...gemm([], { beta: float(0.5) }) }],
    ["for Gemm with a column as bias", /no constant row/, { ...square, ...gemm(["b"]) }],
    [
      "for Gemm with a computed bias",
      /no constant row/,
      { ...square, feeds: { x: someFloats([4, 4]), c: someFloats([4]) }, ...gemm(["c"]) },
    ],
    [
      "for half precision",
      /float16/,
      {
        feeds: { x: half([3, 6]) },
        nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
        outputs: ["y"],
        initializers: { w: half([6, 5]) },
      },
    ],
    [
      "for stacked matrices",
      /batch of matrices/,
      {
        feeds: { x: someFloats([2, 3, 6]) },
        nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
        outputs: ["y"],
        initializers: { w: someFloats([2, 6, 5]) },
      },
    ],
    [
      "for a constant on the left",
      /constant left operand/,
      {
        feeds: { x: someFloats([6, 3]) },
        nodes: [makeNode("MatMul", ["w", "x"], ["y"])],
        outputs: ["y"],
        initializers: { w: someFloats([5, 6]) },
      },
    ],
  ])("%s", async (_about, reason, parts) => {
    const { layers } = await choose(parts);
    expect(layers.map((plan) => plan.activation)).toEqual(["float"]);
    expect(layers[0].remarks).toEqual([expect.stringMatching(/^activations stay in float: /)]);
    expect(layers[0].remarks[0]).toMatch(reason);
    const asked = await choose(parts, wish({}, false));
    expect(asked.layers[0].remarks).toEqual([]);
  });

  it("for scales per group, and not for one scale of stacked matrices", async () => {
    const parts = { feeds: { x: matrix }, nodes: [makeNode("MatMul", ["x", "w"], ["y"])], outputs: ["y"] };
    const group = { granularity: { kind: "per-group", groupSize: 2 } } as const;
    const { layers } = await choose({ ...parts, initializers: { w: someFloats([6, 5]) } }, wish(group));
    expect(layers[0].remarks).toEqual([expect.stringContaining("scale per group")]);
    const stacked = { ...parts, feeds: { x: someFloats([2, 3, 6]) }, initializers: { w: someFloats([2, 6, 5]) } };
    const whole = await choose(stacked, wish({ granularity: { kind: "per-tensor" } }));
    expect(whole.layers[0].remarks).toEqual([]);
    const test = makeTestModel(stacked);
    const { model } = await quantizeTestModel(engine, test, { formats: [{ weight: { granularity: "tensor" } }] });
    const shipped = await runShipped(engine, model, test.feeds);
    expect(largestDifference(await runModel(engine, test.model, test.feeds), shipped)).toBeLessThan(0.05);
  });
});

describe("products of activations", () => {
  const parts: TestModelParts = {
    feeds: { x: matrix, v: someFloats([6, 2], 2) },
    nodes: [makeNode("MatMul", ["x", "v"], ["y"])],
    outputs: ["y"],
  };

  it("are quantized where activations are", async () => {
    expect((await choose(parts)).products.map(({ product }) => product.operands)).toEqual([["x", "v"]]);
    expect((await choose(parts, wish({}, false))).products).toEqual([]);
  });

  it("can be skipped", async () => {
    const { products, skipped } = await choose(parts, { kind: "skip", reason: "nobody wants it" });
    expect(products).toEqual([]);
    expect(skipped.map(({ reason }) => reason)).toEqual(["nobody wants it"]);
  });

  it("stay in float in half precision", async () => {
    const feeds = { x: floatTensor("float16", [2, 2], [1, 2, 3, 4]), v: floatTensor("float16", [2, 2], [1, 2, 3, 4]) };
    expect((await choose({ ...parts, feeds })).products).toEqual([]);
  });
});
