import { afterAll, describe, expect, it } from "vitest";
import { makeBody, makeIf, makeTestModel, runModel, someFloats, type TestModelParts, yes } from "../../test/models.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { FloatType } from "../tensor/element-type.js";
import { float64Values, floatTensor, type Tensor } from "../tensor/tensor.js";
import { addToBias, biasedOutput, biasObstacle } from "./fold-bias.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const float = (value: number) => ({ kind: "float", value }) as const;
const pads = [1, 1, 1, 1];

interface Case extends Partial<TestModelParts> {
  readonly about: string;
  /** Operators afterwards. */
  readonly becomes: string;
  readonly axisFromEnd: number;
  readonly channels: number;
  readonly elementType?: FloatType;
}

const picture = { x: someFloats([2, 2, 4, 4]) };
const convolution = { axisFromEnd: -3, channels: 3, feeds: picture };
const w = someFloats([3, 2, 3, 3], 2);
const matrix = { axisFromEnd: -1, channels: 3, feeds: { x: someFloats([3, 4]) } };
const gemm = (attributes: Parameters<typeof makeNode>[3] = {}, inputs = ["x", "w", "b"]) => [
  makeNode("Gemm", inputs, ["y"], attributes),
];
const withC = (...shape: readonly number[]) => ({ w: someFloats([4, 3], 2), b: someFloats(shape, 3) });

const cases: readonly Case[] = [
  {
    about: "the bias of Conv",
    becomes: "Conv",
    ...convolution,
    nodes: [makeNode("Conv", ["x", "w", "b"], ["y"], { pads })],
    initializers: { w, b: someFloats([3], 3) },
  },
  {
    about: "Conv without a bias",
    becomes: "Conv",
    ...convolution,
    nodes: [makeNode("Conv", ["x", "w"], ["y"], { pads })],
    initializers: { w },
  },
  {
    about: "Conv with a bias that is left out by name",
    becomes: "Conv",
    ...convolution,
    nodes: [makeNode("Conv", ["x", "w", ""], ["y"], { pads })],
    initializers: { w },
  },
  {
    about: "Conv with a bias that is computed",
    becomes: "Abs Conv Add",
    ...convolution,
    feeds: { ...picture, b: someFloats([3], 3) },
    nodes: [makeNode("Abs", ["b"], ["c"]), makeNode("Conv", ["x", "w", "c"], ["y"], { pads })],
    initializers: { w },
  },
  {
    about: "the bias of ConvTranspose with groups",
    becomes: "ConvTranspose",
    ...convolution,
    channels: 4,
    nodes: [makeNode("ConvTranspose", ["x", "w", "b"], ["y"], { group: 2 })],
    initializers: { w: someFloats([2, 2, 3, 3], 2), b: someFloats([4], 3) },
  },
  { about: "C of Gemm, a vector", becomes: "Gemm", ...matrix, nodes: gemm(), initializers: withC(3) },
  { about: "C of Gemm, a row", becomes: "Gemm", ...matrix, nodes: gemm(), initializers: withC(1, 3) },
  { about: "C of Gemm, one number for all", becomes: "Gemm Add", ...matrix, nodes: gemm(), initializers: withC() },
  {
    about: "C of Gemm, a column as long as there are channels",
    becomes: "Gemm Add",
    ...matrix,
    nodes: gemm(),
    initializers: withC(3, 1),
  },
  { about: "C of Gemm, a matrix", becomes: "Gemm Add", ...matrix, nodes: gemm(), initializers: withC(3, 3) },
  {
    about: "C of Gemm, which enters times beta",
    becomes: "Gemm",
    ...matrix,
    nodes: gemm({ alpha: float(3), beta: float(0.25) }),
    initializers: withC(3),
  },
  {
    about: "Gemm without C, times beta",
    becomes: "Gemm",
    ...matrix,
    nodes: gemm({ beta: float(-2) }, ["x", "w"]),
    initializers: { w: someFloats([4, 3], 2) },
  },
  {
    about: "C of Gemm, times nothing",
    becomes: "Gemm Add",
    ...matrix,
    nodes: gemm({ beta: float(0) }),
    initializers: withC(3),
  },
  {
    about: "Gemm with its weight on the left, without C",
    becomes: "Gemm",
    axisFromEnd: -2,
    channels: 3,
    feeds: { x: someFloats([4, 3]) },
    nodes: gemm({}, ["w", "x"]),
    initializers: { w: someFloats([3, 4], 2) },
  },
  {
    about: "Gemm with its weight on the left, C a column",
    becomes: "Gemm",
    axisFromEnd: -2,
    channels: 3,
    feeds: { x: someFloats([4, 3]) },
    nodes: gemm({}, ["w", "x", "b"]),
    initializers: { w: someFloats([3, 4], 2), b: someFloats([3, 1], 3) },
  },
  {
    about: "Gemm with its weight on the left, C a row as long as there are channels",
    becomes: "Gemm Add",
    axisFromEnd: -2,
    channels: 3,
    feeds: { x: someFloats([4, 3]) },
    nodes: gemm({}, ["w", "x", "b"]),
    initializers: { w: someFloats([3, 4], 2), b: someFloats([3], 3) },
  },
  {
    about: "the Add behind MatMul",
    becomes: "MatMul Add",
    ...matrix,
    nodes: [makeNode("MatMul", ["x", "w"], ["m"]), makeNode("Add", ["b", "m"], ["y"])],
    initializers: withC(3),
  },
  {
    about: "the Add of one number behind MatMul with one channel",
    becomes: "MatMul Add",
    ...matrix,
    channels: 1,
    nodes: [makeNode("MatMul", ["x", "w"], ["m"]), makeNode("Add", ["m", "b"], ["y"])],
    initializers: { w: someFloats([4, 1], 2), b: someFloats([], 3) },
  },
  {
    about: "MatMul without an Add",
    becomes: "MatMul Add",
    ...matrix,
    nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
    initializers: { w: someFloats([4, 3], 2) },
  },
  {
    about: "MatMul with its weight on the left",
    becomes: "MatMul Add",
    axisFromEnd: -2,
    channels: 3,
    feeds: { x: someFloats([2, 4, 5]) },
    nodes: [makeNode("MatMul", ["w", "x"], ["y"])],
    initializers: { w: someFloats([3, 4], 2) },
  },
  {
    about: "the Add of something that is computed",
    becomes: "MatMul Add Add",
    ...matrix,
    feeds: { ...matrix.feeds, b: someFloats([3], 3) },
    nodes: [makeNode("MatMul", ["x", "w"], ["m"]), makeNode("Add", ["m", "b"], ["y"])],
    initializers: { w: someFloats([4, 3], 2) },
  },
  {
    about: "MatMul in half precision",
    becomes: "MatMul Add",
    ...matrix,
    elementType: "float16",
    feeds: { x: halves([3, 4], 1) },
    nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
    initializers: { w: halves([4, 3], 2) },
  },
  {
    about: "C of Gemm in half precision",
    becomes: "Gemm",
    ...matrix,
    elementType: "float16",
    feeds: { x: halves([3, 4], 1) },
    nodes: gemm(),
    initializers: { w: halves([4, 3], 2), b: halves([3], 3) },
  },
];

describe("addToBias", () => {
  it.each(cases)("adds to $about", async (given) => {
    const { nodes = [], feeds = {}, elementType = "float32", axisFromEnd } = given;
    const { model, feeds: fed } = makeTestModel({ ...given, nodes, feeds, outputs: ["y"] });
    const change = Float64Array.from({ length: given.channels }, (_, i) => 1.5 - i);
    const graph = applyPatch(model.graph, addToBias(model.graph, { value: "y", axisFromEnd, elementType }, change));
    expect(graph.nodes.map((node) => node.opType).join(" ")).toBe(given.becomes);
    const before = (await runModel(engine, model, fed)).get("y") as Tensor;
    const after = (await runModel(engine, withGraph(model, graph), fed)).get("y") as Tensor;
    expect(after.shape).toEqual(before.shape);
    const [left, right] = [float64Values(before), float64Values(after)];
    const inner = before.shape.slice(before.shape.length + axisFromEnd + 1).reduce((a, b) => a * b, 1);
    const tolerance = elementType === "float16" ? 5e-3 : 5e-6;
    right.forEach((value, i) => {
      const channel = Math.floor(i / inner) % given.channels;
      expect(Math.abs(value - left[i] - change[channel])).toBeLessThan(tolerance);
    });
  });

  it.each([
    ["the Add of a constant per channel", ["MatMul", "Add"], "MatMul Add", [3]],
    ["the Add of a constant per position", ["MatMul", "Add"], "MatMul Add", [4, 1]],
    ["the Add of a constant per position and channel", ["MatMul", "Add"], "MatMul Add", [4, 3]],
    ["the Add of a scalar", ["MatMul", "Add"], "MatMul Add", []],
    ["an Add of its own behind one of a constant per sample", ["MatMul", "Add"], "MatMul Add Add", [2, 1, 1]],
    ["an Add of its own behind MatMul", ["MatMul"], "MatMul Add", [3]],
  ] as const)("adds per position to %s", async (_about, [, add], becomes, shape) => {
    const { model, feeds } = makeTestModel({
      feeds: { x: someFloats([2, 4, 5]) },
      nodes: [
        makeNode("MatMul", ["x", "w"], [add === undefined ? "y" : "m"]),
        ...(add === undefined ? [] : [makeNode(add, ["b", "m"], ["y"])]),
      ],
      outputs: ["y"],
      initializers: { w: someFloats([5, 3], 2), b: someFloats(shape, 3) },
    });
    const change = Float64Array.from({ length: 12 }, (_, i) => 1.5 - i);
    const at = { value: "y", axisFromEnd: -1, elementType: "float32", positions: [4, 3] } as const;
    const graph = applyPatch(model.graph, addToBias(model.graph, at, change));
    expect(graph.nodes.map((node) => node.opType).join(" ")).toBe(becomes);
    const before = float64Values((await runModel(engine, model, feeds)).get("y") as Tensor);
    const after = float64Values((await runModel(engine, withGraph(model, graph), feeds)).get("y") as Tensor);
    const differences = after.map((value, i) => Math.abs(value - before[i] - change[i % 12]));
    expect(Math.max(...differences)).toBeLessThan(5e-6);
  });

  const place = { value: "y", axisFromEnd: -1, elementType: "float32" } as const;
  const parts = { feeds: matrix.feeds, initializers: withC(3) };

  it.each([
    ["another layer", [makeNode("Gemm", ["x", "w", "b"], ["y"]), makeNode("Gemm", ["x", "w", "b"], ["z"])], ["y", "z"]],
    [
      "a body",
      [
        makeNode("Gemm", ["x", "w", "b"], ["y"]),
        makeIf("z", makeBody(["e"], [makeNode("Neg", ["b"], ["e"])]), makeBody(["f"], [makeNode("Abs", ["b"], ["f"])])),
      ],
      ["y", "z"],
    ],
    ["the outputs", [makeNode("Gemm", ["x", "w", "b"], ["y"])], ["y", "b"]],
  ] as const)("leaves a bias alone that is read by %s too", async (_about, nodes, outputs) => {
    const { model, feeds } = makeTestModel({ ...parts, feeds: { ...parts.feeds, c: yes }, nodes, outputs });
    const before = await runModel(engine, model, feeds);
    const graph = applyPatch(model.graph, addToBias(model.graph, place, Float64Array.of(1, 2, 3)));
    const after = await runModel(engine, withGraph(model, graph), feeds);
    expect(after.get(outputs[1])?.bytes()).toEqual(before.get(outputs[1])?.bytes());
    expect(after.get("y")?.bytes()).not.toEqual(before.get("y")?.bytes());
    expect([...graph.initializers.keys()].sort()).toEqual(["b", "b_compensated", "w"]);
  });

  it("adds up when it is called again", async () => {
    const { model, feeds } = makeTestModel({ ...parts, nodes: gemm({}, ["x", "w"]), outputs: ["y"] });
    const once = applyPatch(model.graph, addToBias(model.graph, place, Float64Array.of(1, 2, 3)));
    const twice = applyPatch(once, addToBias(once, place, Float64Array.of(-1, -2, -2)));
    expect(twice.nodes).toHaveLength(1);
    const before = float64Values((await runModel(engine, model, feeds)).get("y") as Tensor);
    const after = float64Values((await runModel(engine, withGraph(model, twice), feeds)).get("y") as Tensor);
    after.forEach((value, i) => {
      expect(value - before[i]).toBeCloseTo(i % 3 === 2 ? 1 : 0, 5);
    });
  });
});

describe("biasedOutput", () => {
  const behind = async (shape: readonly number[], ...more: readonly ReturnType<typeof makeNode>[]) => {
    const nodes = [makeNode("MatMul", ["x", "w"], ["m"]), makeNode("Add", ["m", "b"], ["y"]), ...more];
    const outputs = more.length > 0 ? ["z"] : ["y"];
    const { model } = makeTestModel({ feeds: matrix.feeds, nodes, outputs, initializers: withC(...shape) });
    return biasedOutput(model.graph, await inferValueTypes(engine, model), "m", -1);
  };

  it.each([[[3]], [[1, 3]]])("is behind the Add of a constant of shape %j", async (shape) => {
    expect(await behind(shape)).toBe("y");
  });

  it.each([[[]], [[1]], [[3, 1]], [[3, 3]], [[1, 1, 3]]])("is not behind the Add of shape %j", async (shape) => {
    expect(await behind(shape)).toBe("m");
  });

  it("is not behind an Add that is not the only reader", async () => {
    expect(await behind([3], makeNode("Mul", ["m", "y"], ["z"]))).toBe("m");
  });
});

describe("biasObstacle", () => {
  it.each(["Gather", "LSTM", "GRU", "RNN"])("is there for %s", (opType) => {
    expect(biasObstacle(makeNode(opType, ["x"], ["y"]))).toMatch(/bias/);
  });

  it.each(["Conv", "MatMul", "Gemm", "ConvTranspose"])("is not there for %s", (opType) => {
    expect(biasObstacle(makeNode(opType, ["x"], ["y"]))).toBeUndefined();
  });
});

function halves(shape: readonly number[], seed: number): Tensor {
  return floatTensor("float16", shape, float64Values(someFloats(shape, seed)));
}
