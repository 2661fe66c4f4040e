import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModel } from "../../test/models.js";
import { countFloatLayers, countOperators, optimize } from "../../test/optimized.js";
import { quantizeTestModel, runShipped } from "../../test/quantizing.js";
import type { Dimension, Graph, Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { RecipeInput } from "../recipe/recipe.js";
import { float32Tensor, int64Tensor, type Tensor } from "../tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** A network all of whose layers have integer kernels, and the kernels it is to end in. */
interface Net {
  readonly about: string;
  readonly nodes: readonly Node[];
  readonly kernels: Readonly<Record<string, number>>;
  readonly x?: Tensor;
  readonly shape?: readonly Dimension[];
}

const picture = someFloats([1, 4, 8, 8]);
const tokens = someFloats([2, 3, 16]);
const vectors = someFloats([3, 16]);

const constants: Readonly<Record<string, Tensor>> = {
  w1: someFloats([8, 4, 3, 3], 2),
  w1_bias: someFloats([8], 3),
  w2: someFloats([8, 8, 3, 3], 4),
  w2_bias: someFloats([8], 5),
  wide: someFloats([8, 16, 3, 3], 6),
  wide_bias: someFloats([8], 7),
  each: someFloats([8, 1, 3, 3], 8),
  each_bias: someFloats([8], 9),
  head: someFloats([8, 4], 10),
  head_bias: someFloats([4], 11),
  square: someFloats([16, 16], 12),
  square_bias: someFloats([16], 13),
  row: someFloats([1, 16], 14),
  zero: float32Tensor([], [0]),
  minusHalf: float32Tensor([], [-0.5]),
  half: float32Tensor([], [0.5]),
  two: float32Tensor([4], [1, 1, 2, 2]),
  six: float32Tensor([], [6]),
  one: int64Tensor([1], [1]),
  zero1: int64Tensor([1], [0]),
  eight: int64Tensor([1], [8]),
  pads: int64Tensor([8], [0, 0, 1, 1, 0, 0, 1, 1]),
  five: int64Tensor([1], [5]),
  three: int64Tensor([1], [3]),
  picked: int64Tensor([3], [0, 5, 2]),
  heads: int64Tensor([4], [2, 3, 4, 4]),
  joined: int64Tensor([3], [2, 3, 16]),
};

const conv = (input: string, weight: string, output: string, more: Parameters<typeof makeNode>[3] = {}) =>
  makeNode("Conv", [input, weight, `${weight}_bias`], [output], { pads: [1, 1, 1, 1], ...more });
const relu = (input: string, output: string) => makeNode("Relu", [input], [output]);

/** Two convolutions with something between `a` and `b`, and a classifier. */
function between(...nodes: readonly Node[]): readonly Node[] {
  return [conv("x", "w1", "a"), ...nodes, conv("b", "w2", "z"), ...classifier];
}

const classifier: readonly Node[] = [
  makeNode("GlobalAveragePool", ["z"], ["pooled"]),
  makeNode("Flatten", ["pooled"], ["flat"]),
  makeNode("Gemm", ["flat", "head", "head_bias"], ["y"]),
];

const convolutional: readonly Net[] = [
  {
    about: "Relu and MaxPool",
    nodes: between(relu("a", "r"), makeNode("MaxPool", ["r"], ["b"], { kernel_shape: [2, 2], strides: [2, 2] })),
    kernels: { QLinearConv: 2, QGemm: 1, QLinearGlobalAveragePool: 1 },
  },
  {
    about: "a residual connection",
    nodes: between(relu("a", "r"), conv("r", "w2", "c"), makeNode("Add", ["r", "c"], ["s"]), relu("s", "b")),
    kernels: { QLinearConv: 3, QLinearAdd: 1 },
  },
  {
    about: "Clip from 0 to 6",
    nodes: between(makeNode("Clip", ["a", "zero", "six"], ["b"])),
    kernels: { QLinearConv: 2 },
  },
  {
    about: "Clip to limits that the values reach",
    nodes: between(makeNode("Clip", ["a", "minusHalf", "half"], ["b"])),
    kernels: { QLinearConv: 2 },
  },
  { about: "Clip open above", nodes: between(makeNode("Clip", ["a", "half"], ["b"])), kernels: { QLinearConv: 2 } },
  {
    about: "a depthwise convolution without Relu",
    nodes: between(conv("a", "each", "b", { group: 8 })),
    kernels: { QLinearConv: 3 },
  },
  {
    about: "Concat of a branch with Relu and one without",
    nodes: [
      conv("x", "w1", "a"),
      relu("a", "r"),
      conv("r", "w2", "b"),
      relu("b", "s"),
      conv("r", "each", "c", { group: 8 }),
      makeNode("Concat", ["s", "c"], ["d"], { axis: 1 }),
      makeNode("MaxPool", ["d"], ["e"], { kernel_shape: [2, 2] }),
      conv("e", "wide", "z"),
      ...classifier,
    ],
    kernels: { QLinearConv: 4, QLinearConcat: 1 },
  },
  {
    about: "SiLU",
    nodes: between(makeNode("Sigmoid", ["a"], ["s"]), makeNode("Mul", ["a", "s"], ["b"])),
    kernels: { QLinearConv: 2, QLinearSigmoid: 1, QLinearMul: 1 },
  },
  {
    about: "LeakyRelu",
    nodes: between(makeNode("LeakyRelu", ["a"], ["b"])),
    kernels: { QLinearConv: 2, QLinearLeakyRelu: 1 },
  },
  {
    about: "AveragePool",
    nodes: between(makeNode("AveragePool", ["a"], ["b"], { kernel_shape: [2, 2], strides: [2, 2] })),
    kernels: { QLinearConv: 2, QLinearAveragePool: 1 },
  },
  {
    about: "LRN, which has no integer kernel",
    nodes: between(relu("a", "r"), makeNode("LRN", ["r"], ["b"], { size: 3 })),
    kernels: { QLinearConv: 2, Sqrt: 2 },
  },
  {
    about: "nearest Resize",
    nodes: between(
      relu("a", "r"),
      makeNode("Resize", ["r", "", "two"], ["b"], { mode: "nearest", coordinate_transformation_mode: "asymmetric" }),
    ),
    kernels: { QLinearConv: 2, Resize: 1, DequantizeLinear: 0 },
  },
  {
    about: "Pad and SpaceToDepth",
    nodes: [
      conv("x", "w1", "a"),
      relu("a", "r"),
      makeNode("Pad", ["r", "pads"], ["c"]),
      makeNode("SpaceToDepth", ["c"], ["d"], { blocksize: 2 }),
      makeNode("Slice", ["d", "zero1", "eight", "one"], ["b"]),
      conv("b", "w2", "z"),
      ...classifier,
    ],
    kernels: { QLinearConv: 2, Pad: 1, SpaceToDepth: 1, DequantizeLinear: 0 },
  },
  {
    about: "Slice, Gather and Transpose",
    nodes: between(
      makeNode("Slice", ["a", "one", "five", "three"], ["c"]),
      makeNode("Gather", ["c", "picked"], ["d"], { axis: 2 }),
      makeNode("Transpose", ["d"], ["b"], { perm: [0, 1, 3, 2] }),
    ),
    kernels: { QLinearConv: 2, Slice: 1, Gather: 1, DequantizeLinear: 0 },
  },
];

const linear = (input: string, output: string, ...rest: readonly Node[]) => [
  makeNode("MatMul", [input, "square"], [`${output}_product`]),
  makeNode("Add", [`${output}_product`, "square_bias"], [output]),
  ...rest,
];

const attention: readonly Node[] = [
  ...linear("x", "q"),
  makeNode("Reshape", ["q", "heads"], ["q4"]),
  makeNode("Transpose", ["q4"], ["query"], { perm: [0, 2, 1, 3] }),
  makeNode("Transpose", ["q4"], ["key"], { perm: [0, 2, 3, 1] }),
  makeNode("MatMul", ["query", "key"], ["scores"]),
  makeNode("Mul", ["scores", "half"], ["scaled"]),
  makeNode("Softmax", ["scaled"], ["weights"], { axis: -1 }),
  makeNode("MatMul", ["weights", "query"], ["mixed"]),
  makeNode("Transpose", ["mixed"], ["turned"], { perm: [0, 2, 1, 3] }),
  makeNode("Reshape", ["turned", "joined"], ["b"]),
  ...linear("b", "o", makeNode("Add", ["x", "o"], ["y"])),
];

const products: readonly Net[] = [
  {
    about: "MatMul, Add and Relu on matrices",
    x: vectors,
    nodes: linear("x", "a", relu("a", "b"), ...linear("b", "y")),
    kernels: { QGemm: 2, Relu: 0 },
  },
  {
    about: "MatMul, Add and Clip on matrices",
    x: vectors,
    nodes: linear("x", "a", makeNode("Clip", ["a", "minusHalf", "half"], ["b"]), ...linear("b", "y")),
    kernels: { QGemm: 2 },
  },
  {
    about: "Gemm with a bias of two dimensions",
    x: vectors,
    nodes: [makeNode("Gemm", ["x", "square", "row"], ["y"], { transB: 1 })],
    kernels: { QGemm: 1 },
  },
  {
    about: "a MatMul of matrices and a residual connection",
    x: vectors,
    nodes: [makeNode("MatMul", ["x", "square"], ["a"]), makeNode("Add", ["x", "a"], ["y"])],
    kernels: { QGemm: 1, Add: 1 },
  },
  {
    about: "MatMul and Add on more dimensions, all of them fixed",
    x: tokens,
    nodes: linear("x", "a", makeNode("Tanh", ["a"], ["b"]), ...linear("b", "y")),
    kernels: { MatMulIntegerToFloat: 2 },
  },
  {
    about: "MatMul and Add on open dimensions",
    x: tokens,
    shape: ["batch", "tokens", 16],
    nodes: linear("x", "a", makeNode("Tanh", ["a"], ["b"]), ...linear("b", "y")),
    kernels: { MatMulIntegerToFloat: 2 },
  },
  { about: "attention", x: tokens, nodes: attention, kernels: { MatMulIntegerToFloat: 3, QLinearMatMul: 1 } },
];

const nets = [...convolutional, ...products];

function build({ nodes, x = picture, shape = x.shape }: Net): TestModel {
  const read = new Set(nodes.flatMap((node) => node.inputs));
  const initializers = Object.fromEntries(Object.entries(constants).filter(([name]) => read.has(name)));
  return makeTestModel({ feeds: { x }, shapes: { x: shape }, nodes, outputs: ["y"], initializers });
}

function formats(weightBits: 4 | 8, activationBits: 4 | 8, symmetric: boolean): RecipeInput["formats"] {
  return [{ weight: { bits: weightBits }, activation: { bits: activationBits, symmetric } }];
}

describe.each([
  { weights: 8, activations: 8, symmetric: false, tolerance: 0.05 },
  { weights: 8, activations: 8, symmetric: true, tolerance: 0.05 },
  { weights: 4, activations: 8, symmetric: false, tolerance: 0.4 },
  { weights: 4, activations: 4, symmetric: true, tolerance: 0.8 },
] as const)("$weights-bit weights, $activations-bit activations, symmetric $symmetric", (given) => {
  it.each(nets)("leaves no layer in float: $about", async (net) => {
    const test = build(net);
    const recipe = { formats: formats(given.weights, given.activations, given.symmetric) };
    const { model, report } = await quantizeTestModel(engine, test, recipe);
    expect(report.layers.flatMap((layer) => layer.remarks)).toEqual([]);
    const optimized = await optimize(model);
    expect([countFloatLayers(optimized), countOperators(optimized)]).toEqual([0, expect.anything()]);
    if (given.activations === 8 && !given.symmetric) {
      const expected = Object.keys(net.kernels).map((name) => [name, countOperators(optimized)[name] ?? 0]);
      expect(Object.fromEntries(expected)).toEqual(net.kernels);
    }
    const [float, exact] = [await runModel(engine, test.model, test.feeds), await runModel(engine, model, test.feeds)];
    expect(largestDifference(float, exact)).toBeLessThan(given.tolerance);
    // Single steps at rounding ties.
    expect(largestDifference(exact, await runShipped(engine, model, test.feeds))).toBeLessThan(0.01);
  });
});

describe("channels that are split", () => {
  const countFloatGathers = (graph: Graph) =>
    graph.nodes.filter(({ opType, inputs }) => {
      const producer = opType === "Gather" ? graph.producer(inputs[0]) : undefined;
      return producer?.opType === "DequantizeLinear";
    }).length;

  it.each(nets)("leave no layer in float and are copied as codes: $about", async (net) => {
    const test = build(net);
    const recipe: RecipeInput = { formats: formats(4, 8, false), steps: ["ocs"] };
    const { model, report } = await quantizeTestModel(engine, test, recipe);
    const [{ sites }] = report.steps;
    const optimized = await optimize(model);
    expect([countFloatLayers(optimized), countFloatGathers(optimized)]).toEqual([0, 0]);
    const plain = await optimize((await quantizeTestModel(engine, test, { formats: formats(4, 8, false) })).model);
    const operators = ["DequantizeLinear", "QuantizeLinear"].map((name) => {
      return (countOperators(optimized)[name] ?? 0) - (countOperators(plain)[name] ?? 0);
    });
    expect([sites.length > 0, ...operators]).toEqual([true, 0, 0]);
    expect(
      largestDifference(await runModel(engine, model, test.feeds), await runShipped(engine, model, test.feeds)),
    ).toBeLessThan(0.01);
  });
});
