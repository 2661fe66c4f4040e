import { makeNode } from "../src/graph/node.js";
import { float32Values, floatTensor, int64Tensor, type Tensor } from "../src/tensor/tensor.js";
import { someFloats, type TestModelParts } from "./models.js";

/** A model whose weights are quantized, with the axis of the output channels in each of them. */
export interface WeightForm extends TestModelParts {
  readonly about: string;
  readonly channelAxes: Readonly<Record<string, number>>;
  /** Readers have their output channels along different axes: only one scale for all suits them. */
  readonly perTensorOnly?: boolean;
}

const float = (value: number) => ({ kind: "float", value }) as const;
const picture = someFloats([2, 4, 5, 6]);
const matrix = someFloats([3, 6]);
const rows = int64Tensor([2, 2], [3, 0, 63, -1]);

const convolutions: readonly WeightForm[] = [
  {
    about: "Conv",
    feeds: { x: picture },
    nodes: [makeNode("Conv", ["x", "w", "b"], ["y"])],
    initializers: { w: someFloats([5, 4, 3, 3], 2), b: someFloats([5], 3) },
    channelAxes: { w: 0 },
    outputs: ["y"],
  },
  {
    about: "Conv in one dimension, without bias",
    feeds: { x: someFloats([2, 3, 7]) },
    nodes: [makeNode("Conv", ["x", "w"], ["y"])],
    initializers: { w: someFloats([5, 3, 3], 2) },
    channelAxes: { w: 0 },
    outputs: ["y"],
  },
  {
    about: "Conv in groups, then depthwise",
    feeds: { x: picture },
    nodes: [makeNode("Conv", ["x", "w"], ["a"], { group: 2 }), makeNode("Conv", ["a", "v"], ["y"], { group: 6 })],
    initializers: { w: someFloats([6, 2, 2, 2], 2), v: someFloats([6, 1, 3, 3], 3) },
    channelAxes: { w: 0, v: 0 },
    outputs: ["y"],
  },
  {
    about: "ConvTranspose",
    feeds: { x: picture },
    nodes: [makeNode("ConvTranspose", ["x", "w", "b"], ["y"])],
    initializers: { w: someFloats([4, 3, 2, 3], 2), b: someFloats([3], 3) },
    channelAxes: { w: 1 },
    outputs: ["y"],
  },
  {
    about: "ConvTranspose in groups",
    feeds: { x: picture },
    nodes: [makeNode("ConvTranspose", ["x", "w"], ["y"], { group: 2 })],
    initializers: { w: someFloats([4, 3, 2, 2], 2) },
    channelAxes: { w: 1 },
    outputs: ["y"],
  },
];

const products: readonly WeightForm[] = [
  {
    about: "Gemm with transB, C a row",
    feeds: { x: matrix },
    nodes: [makeNode("Gemm", ["x", "w", "c"], ["y"], { transB: 1 })],
    initializers: { w: someFloats([4, 6], 2), c: someFloats([1, 4], 3) },
    channelAxes: { w: 0 },
    outputs: ["y"],
  },
  {
    about: "Gemm with transA, alpha and beta, C a column",
    feeds: { x: someFloats([6, 3]) },
    nodes: [makeNode("Gemm", ["x", "w", "c"], ["y"], { transA: 1, alpha: float(0.5), beta: float(2) })],
    initializers: { w: someFloats([6, 5], 2), c: someFloats([3, 1], 3) },
    channelAxes: { w: 1 },
    outputs: ["y"],
  },
  {
    about: "Gemm with the constant on the left",
    feeds: { x: matrix },
    nodes: [makeNode("Gemm", ["w", "x"], ["y"]), makeNode("Gemm", ["v", "x"], ["z"], { transA: 1 })],
    initializers: { w: someFloats([5, 3], 2), v: someFloats([3, 7], 3) },
    channelAxes: { w: 0, v: 1 },
    outputs: ["y", "z"],
  },
  {
    about: "MatMul, columns no multiple of 4",
    feeds: { x: matrix },
    nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
    initializers: { w: someFloats([6, 7], 2) },
    channelAxes: { w: 1 },
    outputs: ["y"],
  },
  {
    about: "MatMul of a vector and of batches",
    feeds: { x: someFloats([2, 3, 6]), v: someFloats([6]) },
    nodes: [makeNode("MatMul", ["x", "w"], ["y"]), makeNode("MatMul", ["v", "w"], ["z"])],
    initializers: { w: someFloats([6, 8], 2) },
    channelAxes: { w: 1 },
    outputs: ["y", "z"],
  },
  {
    about: "MatMul with a matrix for each of a batch",
    feeds: { x: someFloats([2, 3, 6]) },
    nodes: [makeNode("MatMul", ["x", "w"], ["y"])],
    initializers: { w: someFloats([2, 6, 5], 2) },
    channelAxes: { w: 2 },
    outputs: ["y"],
  },
  {
    about: "MatMul with the constant on the left",
    feeds: { x: matrix, v: someFloats([3]) },
    nodes: [makeNode("MatMul", ["w", "x"], ["y"]), makeNode("MatMul", ["w", "v"], ["z"])],
    initializers: { w: someFloats([5, 3], 2) },
    channelAxes: { w: 0 },
    outputs: ["y", "z"],
  },
  {
    about: "a weight behind a Transpose",
    feeds: { x: matrix },
    nodes: [makeNode("Transpose", ["w"], ["t"]), makeNode("MatMul", ["x", "t"], ["y"])],
    initializers: { w: someFloats([5, 6], 2) },
    channelAxes: { w: 0 },
    outputs: ["y"],
  },
  {
    about: "a weight behind a Transpose that moves three axes around",
    feeds: { x: someFloats([2, 3, 6]) },
    nodes: [makeNode("Transpose", ["w"], ["t"], { perm: [1, 2, 0] }), makeNode("MatMul", ["x", "t"], ["y"])],
    initializers: { w: someFloats([5, 2, 6], 2) },
    channelAxes: { w: 0 },
    outputs: ["y"],
  },
  {
    about: "a weight that two nodes read alike",
    feeds: { x: matrix },
    nodes: [makeNode("MatMul", ["x", "w"], ["y"]), makeNode("Gemm", ["x", "w"], ["z"], { alpha: float(3) })],
    initializers: { w: someFloats([6, 5], 2) },
    channelAxes: { w: 1 },
    outputs: ["y", "z"],
  },
  {
    about: "a weight that two nodes read along different axes",
    feeds: { x: matrix, v: someFloats([3, 5]) },
    nodes: [
      makeNode("MatMul", ["x", "w"], ["y"]),
      makeNode("Transpose", ["w"], ["t"]),
      makeNode("MatMul", ["v", "t"], ["z"]),
    ],
    initializers: { w: someFloats([6, 5], 2) },
    channelAxes: { w: 1 },
    perTensorOnly: true,
    outputs: ["y", "z"],
  },
];

const lookups: readonly WeightForm[] = [
  {
    about: "Gather",
    feeds: { i: rows },
    nodes: [makeNode("Gather", ["w", "i"], ["y"])],
    initializers: { w: someFloats([64, 64], 2) },
    channelAxes: { w: 0 },
    outputs: ["y"],
  },
  {
    about: "a table that is the last layer's weight too",
    feeds: { i: rows },
    nodes: [
      makeNode("Gather", ["w", "i"], ["e"]),
      makeNode("Transpose", ["w"], ["t"], { perm: [1, 0] }),
      makeNode("MatMul", ["e", "t"], ["y"]),
    ],
    initializers: { w: someFloats([64, 64], 2) },
    channelAxes: { w: 0 },
    outputs: ["e", "y"],
  },
  {
    about: "a table that is multiplied with too",
    feeds: { i: rows },
    nodes: [makeNode("Gather", ["w", "i"], ["e"]), makeNode("MatMul", ["e", "w"], ["y"])],
    initializers: { w: someFloats([64, 64], 2) },
    channelAxes: { w: 0 },
    perTensorOnly: true,
    outputs: ["e", "y"],
  },
];

const recurrent: readonly WeightForm[] = [
  {
    about: "LSTM, both directions, first output not wanted",
    feeds: { x: someFloats([3, 2, 5]) },
    nodes: [makeNode("LSTM", ["x", "w", "r", "b"], ["", "y"], { hidden_size: 3, direction: "bidirectional" }, "lstm")],
    initializers: { w: someFloats([2, 12, 5], 2), r: someFloats([2, 12, 3], 3), b: someFloats([2, 24], 4) },
    channelAxes: { w: 1, r: 1 },
    outputs: ["y"],
  },
  {
    about: "GRU",
    feeds: { x: someFloats([3, 2, 5]) },
    nodes: [makeNode("GRU", ["x", "w", "r"], ["y"], { hidden_size: 3 })],
    initializers: { w: someFloats([1, 9, 5], 2), r: someFloats([1, 9, 3], 3) },
    channelAxes: { w: 1, r: 1 },
    outputs: ["y"],
  },
];

/** The form in half precision. */
function halved(form: WeightForm): WeightForm {
  const half = (tensor: Tensor) =>
    tensor.type === "float32" ? floatTensor("float16", tensor.shape, float32Values(tensor)) : tensor;
  const halves = (tensors: Readonly<Record<string, Tensor>> = {}) =>
    Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, half(tensor)]));
  const { about, feeds, initializers } = form;
  return { ...form, about: `${about}, float16`, feeds: halves(feeds), initializers: halves(initializers) };
}

const forms: readonly WeightForm[] = [...convolutions, ...products, ...lookups, ...recurrent];
const halvedForms = [
  "Conv",
  "ConvTranspose",
  "MatMul, columns no multiple of 4",
  "a weight behind a Transpose",
  "Gather",
  "GRU",
];

/** Every way in which a node reads a weight, some of them in half precision too. */
export const weightForms: readonly WeightForm[] = [
  ...forms,
  ...forms.filter(({ about }) => halvedForms.includes(about)).map(halved),
];
