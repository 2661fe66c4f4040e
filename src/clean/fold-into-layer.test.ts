import { afterAll, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModelParts } from "../../test/models.js";
import { normalize, statistics } from "../../test/normalization.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, floatTensor, type Tensor } from "../tensor/tensor.js";
import { foldBatchNormalization } from "./fold-batch-normalization.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = someFloats([2, 4, 5, 5]);
const rows = someFloats([3, 4], 2);
const float = (value: number) => ({ kind: "float", value }) as const;

interface Case extends Omit<TestModelParts, "outputs"> {
  readonly about: string;
  /** Operators that are left, in order. */
  readonly left: string;
}

function double(tensor: Tensor): Tensor {
  return floatTensor("float64", tensor.shape, float32Values(tensor));
}

function mapTensors(
  tensors: Readonly<Record<string, Tensor>>,
  change: (tensor: Tensor) => Tensor,
): Readonly<Record<string, Tensor>> {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, change(tensor)]));
}

const conv = makeNode("Conv", ["x", "w"], ["c"], { pads: [1, 1, 1, 1] }, "conv");
const biased = makeNode("Conv", ["x", "w", "b"], ["c"], {}, "conv");
const w = someFloats([6, 4, 3, 3], 3);
const b = someFloats([6], 4);
const toLast = { perm: [0, 2, 3, 1] };
const toFirst = { perm: [0, 3, 1, 2] };

const layers: readonly Case[] = [
  {
    about: "Conv",
    left: "Conv",
    feeds: { x },
    nodes: [conv, normalize("c", "y")],
    initializers: { w, ...statistics(6) },
  },
  {
    about: "Conv with a bias",
    left: "Conv",
    feeds: { x },
    nodes: [biased, normalize("c", "y")],
    initializers: { w, b, ...statistics(6) },
  },
  {
    about: "Conv in groups",
    left: "Conv",
    feeds: { x },
    nodes: [makeNode("Conv", ["x", "w"], ["c"], { group: 2 }), normalize("c", "y")],
    initializers: { w: someFloats([6, 2, 3, 3], 3), ...statistics(6) },
  },
  {
    about: "ConvTranspose in groups",
    left: "ConvTranspose",
    feeds: { x },
    nodes: [makeNode("ConvTranspose", ["x", "w", "b"], ["c"], { group: 2, strides: [2, 2] }), normalize("c", "y")],
    initializers: { w: someFloats([4, 3, 3, 3], 3), b, ...statistics(6) },
  },
  ...[0, 1].map(
    (transB): Case => ({
      about: `Gemm with factors, transB ${transB}`,
      left: "Gemm",
      feeds: { x: rows },
      nodes: [
        makeNode("Gemm", ["x", "w", "b"], ["c"], { transB, alpha: float(0.5), beta: float(2) }),
        normalize("c", "y"),
      ],
      initializers: { w: someFloats(transB ? [6, 4] : [4, 6], 3), b, ...statistics(6) },
    }),
  ),
  {
    about: "Gemm without a bias",
    left: "Gemm",
    feeds: { x: rows },
    nodes: [makeNode("Gemm", ["x", "w"], ["c"]), normalize("c", "y")],
    initializers: { w: someFloats([4, 6], 3), ...statistics(6) },
  },
  {
    about: "Gemm with one number as bias",
    left: "Gemm",
    feeds: { x: rows },
    nodes: [makeNode("Gemm", ["x", "w", "b"], ["c"]), normalize("c", "y")],
    initializers: { w: someFloats([4, 6], 3), b: float32Tensor([1], [0.5]), ...statistics(6) },
  },
  {
    about: "MatMul of matrices",
    left: "MatMul Add",
    feeds: { x: rows },
    nodes: [makeNode("MatMul", ["x", "w"], ["c"]), normalize("c", "y")],
    initializers: { w: someFloats([4, 6], 3), ...statistics(6) },
  },
  {
    about: "MatMul with a bias, first operand",
    left: "MatMul Add",
    feeds: { x: rows },
    nodes: [makeNode("MatMul", ["x", "w"], ["m"]), makeNode("Add", ["b", "m"], ["c"]), normalize("c", "y")],
    initializers: { w: someFloats([4, 6], 3), b, ...statistics(6) },
  },
  {
    about: "MatMul with a bias that is no vector",
    left: "MatMul Add",
    feeds: { x: rows },
    nodes: [makeNode("MatMul", ["x", "w"], ["m"]), makeNode("Add", ["m", "b"], ["c"]), normalize("c", "y")],
    initializers: { w: someFloats([4, 6], 3), b: someFloats([1, 6], 4), ...statistics(6) },
  },
  {
    about: "MatMul on the last axis, through layouts",
    left: "MatMul Add Transpose",
    feeds: { x: someFloats([2, 5, 5, 4]) },
    nodes: [
      makeNode("MatMul", ["x", "w"], ["m"]),
      makeNode("Add", ["m", "b"], ["c"]),
      makeNode("Transpose", ["c"], ["t"], toFirst),
      normalize("t", "y"),
    ],
    initializers: { w: someFloats([4, 6], 3), b, ...statistics(6) },
  },
  {
    about: "Conv, a bias in another layout",
    left: "Conv Transpose Transpose",
    feeds: { x },
    nodes: [
      conv,
      makeNode("Transpose", ["c"], ["t"], toLast),
      makeNode("Add", ["t", "b"], ["a"]),
      makeNode("Transpose", ["a"], ["u"], toFirst),
      normalize("u", "y"),
    ],
    initializers: { w, b, ...statistics(6) },
  },
  {
    about: "float64 weights",
    left: "MatMul Add",
    feeds: { x: double(rows) },
    nodes: [makeNode("MatMul", ["x", "w"], ["c"]), normalize("c", "y")],
    initializers: mapTensors({ w: someFloats([4, 6], 3), ...statistics(6) }, double),
  },
];

const perChannel = someFloats([6, 1, 1], 5);
const arithmetic: readonly Case[] = [
  ["Mul Add", [makeNode("Mul", ["c", "k"], ["d"]), makeNode("Add", ["k", "d"], ["y"])]] as const,
  ["Div Sub", [makeNode("Div", ["c", "k"], ["d"]), makeNode("Sub", ["d", "k"], ["y"])]] as const,
  ["Sub of it", [makeNode("Sub", ["k", "c"], ["y"])]] as const,
  ["a factor for all", [makeNode("Mul", ["c", "one"], ["y"])]] as const,
].map(([about, nodes]) => ({
  about: `${about} by constants`,
  left: "Conv",
  feeds: { x },
  nodes: [biased, ...nodes],
  initializers: { w, b, k: perChannel, one: float32Tensor([1, 1], [0.125]) },
}));

const ahead: readonly Case[] = [
  {
    about: "Conv behind it",
    left: "Conv",
    feeds: { x },
    nodes: [normalize("x", "n"), makeNode("Conv", ["n", "w", "b"], ["y"], { group: 2 }, "conv")],
    initializers: { w: someFloats([6, 2, 3, 3], 3), b, ...statistics(4) },
  },
  ...[0, 1].map(
    (transB): Case => ({
      about: `Gemm behind it, transB ${transB}`,
      left: "Gemm",
      feeds: { x: rows },
      nodes: [normalize("x", "n"), makeNode("Gemm", ["n", "w"], ["y"], { transB, alpha: float(3) })],
      initializers: { w: someFloats(transB ? [6, 4] : [4, 6], 3), ...statistics(4) },
    }),
  ),
];

it.each([...layers, ...arithmetic, ...ahead])("folds into what is there: $about", async (given) => {
  const { model, feeds } = makeTestModel({ ...given, outputs: ["y"] });
  const result = await foldBatchNormalization.run(model, { engine });
  expect(result.model.graph.nodes.map((node) => node.opType).join(" ")).toBe(given.left);
  expect(result.skipped).toEqual([]);
  const [before, after] = [await runModel(engine, model, feeds), await runModel(engine, result.model, feeds)];
  expect(largestDifference(before, after)).toBeLessThan(1e-5);
  expect((await foldBatchNormalization.run(result.model, { engine })).model).toBe(result.model);
});
