import type { Node } from "../src/graph/graph.js";
import { makeNode } from "../src/graph/node.js";
import {
  float32Tensor,
  float32Values,
  int8Tensor,
  int32Tensor,
  int64Tensor,
  type Tensor,
  uint8Tensor,
} from "../src/tensor/tensor.js";
import { makeTestModel, someFloats, type TestModel } from "./models.js";

/**
 * Models as other tools write them, made by hand from small float networks.
 *
 * What is wrong with them: grids that are far too narrow, or biases that are 0.3 too large.
 */
type Fault = "grids" | "biases";

const picture = someFloats([1, 2, 4, 4], 9);
const weights = {
  w1: someFloats([4, 2, 3, 3], 1),
  w2: someFloats([4, 4, 1, 1], 2),
  w3: someFloats([3, 4], 3),
};
const biases = { b1: someFloats([4], 4), b2: someFloats([4], 5), b3: someFloats([3], 6) };
const pads = { pads: [1, 1, 1, 1] };
/** The largest values that the grids hold. */
const tops = { x: 1, r1: 1.5, r2: 1.2, g: 1, y: 1 };
const shapes = { x: ["n", 2, 4, 4] };

export function makePictureNet(): TestModel {
  return makeTestModel({
    feeds: { x: picture },
    shapes,
    nodes: [
      makeNode("Conv", ["x", "w1", "b1"], ["c1"], pads),
      makeNode("Relu", ["c1"], ["r1"]),
      makeNode("Conv", ["r1", "w2", "b2"], ["c2"]),
      makeNode("Relu", ["c2"], ["r2"]),
      makeNode("GlobalAveragePool", ["r2"], ["g"]),
      makeNode("Flatten", ["g"], ["f"]),
      makeNode("Gemm", ["f", "w3", "b3"], ["y"], { transB: 1 }),
    ],
    outputs: ["y"],
    initializers: { ...weights, ...biases },
  });
}

const weightScale = 1 / 127;

interface Grid {
  readonly scale: number;
  readonly zeroPoint: number;
}

function gridOf(value: keyof typeof tops, fault: Fault): Grid {
  const isSigned = value === "x" || value === "y";
  const top = tops[value] * (fault === "biases" && value !== "x" ? 5 : 1);
  return isSigned ? { scale: (2 * top) / 255, zeroPoint: 128 } : { scale: top / 255, zeroPoint: 0 };
}

/** Scales, zero points, codes of weights and biases, by names as onnxruntime's quantizer gives them. */
function parameters(fault: Fault): Record<string, Tensor> {
  const named: Record<string, Tensor> = {};
  for (const value of Object.keys(tops) as (keyof typeof tops)[]) {
    const { scale, zeroPoint } = gridOf(value, fault);
    named[`${value}_scale`] = float32Tensor([], [scale]);
    named[`${value}_zero_point`] = uint8Tensor([], [zeroPoint]);
  }
  for (const [name, tensor] of Object.entries(weights)) {
    named[`${name}_quantized`] = codesOf(tensor);
    named[`${name}_scale`] = float32Tensor([], [weightScale]);
    named[`${name}_zero_point`] = int8Tensor([], [0]);
  }
  const shift = fault === "biases" ? 0.3 : 0;
  const inputs = { b1: "x", b2: "r1", b3: "g" } as const;
  for (const [name, tensor] of Object.entries(biases)) {
    const unit = gridOf(inputs[name as keyof typeof inputs], fault).scale * weightScale;
    const codes = Array.from(float32Values(tensor), (value) => Math.round((value + shift) / unit));
    named[`${name}_quantized`] = int32Tensor(tensor.shape, codes);
    named[`${name}_quantized_scale`] = float32Tensor([1], [unit]);
    named[`${name}_quantized_zero_point`] = int32Tensor([1], [0]);
  }
  return named;
}

function codesOf(tensor: Tensor): Tensor {
  return int8Tensor(
    tensor.shape,
    Array.from(float32Values(tensor), (value) => Math.round(value / weightScale)),
  );
}

/** Q/DQ pairs; the Relus are left to the grids, and what a Relu would return has its name before it is cut off. */
export function makeQdqPeer(fault: Fault = "grids"): TestModel {
  const pair = (value: string, from = value): readonly Node[] => {
    const grid = [`${from}_scale`, `${from}_zero_point`];
    return [
      makeNode("QuantizeLinear", [value, ...grid], [`${value}_q`]),
      makeNode("DequantizeLinear", [`${value}_q`, ...grid], [`${value}_dq`]),
    ];
  };
  const weight = (name: string) =>
    makeNode("DequantizeLinear", [`${name}_quantized`, `${name}_scale`, `${name}_zero_point`], [`${name}_dq`]);
  const bias = (name: string) =>
    makeNode(
      "DequantizeLinear",
      [`${name}_quantized`, `${name}_quantized_scale`, `${name}_quantized_zero_point`],
      [name],
      { axis: 0 },
    );
  return makeTestModel({
    feeds: { x: picture },
    shapes,
    nodes: [
      ...[weight("w1"), weight("w2"), weight("w3"), bias("b1"), bias("b2"), bias("b3"), ...pair("x")],
      makeNode("Conv", ["x_dq", "w1_dq", "b1"], ["r1"], pads),
      ...pair("r1"),
      makeNode("Conv", ["r1_dq", "w2_dq", "b2"], ["r2"]),
      ...pair("r2"),
      makeNode("GlobalAveragePool", ["r2_dq"], ["g"]),
      ...pair("g"),
      makeNode("Flatten", ["g_dq"], ["f"]),
      ...pair("f", "g"),
      makeNode("Gemm", ["f_dq", "w3_dq", "b3"], ["y_raw"], { transB: 1 }),
      makeNode("QuantizeLinear", ["y_raw", "y_scale", "y_zero_point"], ["y_q"]),
      makeNode("DequantizeLinear", ["y_q", "y_scale", "y_zero_point"], ["y"]),
    ],
    outputs: ["y"],
    initializers: parameters(fault),
  });
}

const ofMicrosoft = (node: Node): Node => ({ ...node, domain: "com.microsoft" });
const withMicrosoft = (made: TestModel): TestModel => ({
  ...made,
  model: { ...made.model, opsets: new Map([...made.model.opsets, ["com.microsoft", 1]]) },
});

/** Operators on codes; the pooled codes are flattened as codes. */
export function makeOperatorPeer(fault: Fault = "grids"): TestModel {
  const grid = (name: string) => [`${name}_scale`, `${name}_zero_point`];
  const operand = (name: string) => [`${name}_quantized`, ...grid(name)];
  const made = makeTestModel({
    feeds: { x: picture },
    shapes,
    nodes: [
      makeNode("QuantizeLinear", ["x", ...grid("x")], ["x_q"]),
      makeNode(
        "QLinearConv",
        ["x_q", ...grid("x"), ...operand("w1"), ...grid("r1"), "b1_quantized"],
        ["r1_quantized"],
        pads,
      ),
      makeNode(
        "QLinearConv",
        ["r1_quantized", ...grid("r1"), ...operand("w2"), ...grid("r2"), "b2_quantized"],
        ["r2_quantized"],
      ),
      ofMicrosoft(
        makeNode("QLinearGlobalAveragePool", ["r2_quantized", ...grid("r2"), ...grid("g")], ["g_quantized"], {
          channels_last: 0,
        }),
      ),
      makeNode("Flatten", ["g_quantized"], ["f_quantized"]),
      ofMicrosoft(
        makeNode("QGemm", ["f_quantized", ...grid("g"), ...operand("w3"), "b3_quantized", ...grid("y")], ["y_q"], {
          transB: 1,
          alpha: { kind: "float", value: 1 },
        }),
      ),
      makeNode("DequantizeLinear", ["y_q", ...grid("y")], ["y"]),
    ],
    outputs: ["y"],
    initializers: Object.fromEntries(
      Object.entries(parameters(fault)).filter(([name]) => !/^b\d_.*(scale|point)$/.test(name)),
    ),
  });
  return withMicrosoft(made);
}

const rows = someFloats([1, 3, 32], 11);
const matrices = { m1: someFloats([32, 16], 12), m2: someFloats([16, 32], 13), m3: someFloats([32, 6], 14) };
const rowShapes = { x: ["n", 3, 32] };

/** Three products of the same input's successors, one with a bias. */
export function makeRowNet(): TestModel {
  return makeTestModel({
    feeds: { x: rows },
    shapes: rowShapes,
    nodes: [
      makeNode("MatMul", ["x", "m1"], ["p1"]),
      makeNode("Tanh", ["p1"], ["t1"]),
      makeNode("MatMul", ["t1", "m2"], ["p2"]),
      makeNode("Tanh", ["p2"], ["t2"]),
      makeNode("MatMul", ["t2", "m3"], ["y"]),
    ],
    outputs: ["y"],
    initializers: matrices,
  });
}

/** Activations quantized as the model runs, weights rounded down; no value but the output has the float network's name. */
export function makeDynamicPeer(): TestModel {
  const initializers: Record<string, Tensor> = {};
  for (const [name, tensor] of Object.entries(matrices)) {
    const codes = Array.from(float32Values(tensor), (value) => Math.floor(value * 8));
    initializers[`${name}_quantized`] = int8Tensor(tensor.shape, codes);
    initializers[`${name}_scale`] = float32Tensor([], [0.125]);
    initializers[`${name}_zero_point`] = int8Tensor([], [0]);
  }
  const product = (input: string, weight: string, output: string): readonly Node[] => [
    makeNode("DynamicQuantizeLinear", [input], [`${output}_q`, `${output}_s`, `${output}_z`]),
    makeNode(
      "MatMulInteger",
      [`${output}_q`, `${weight}_quantized`, `${output}_z`, `${weight}_zero_point`],
      [`${output}_i`],
    ),
    makeNode("Cast", [`${output}_i`], [`${output}_f`], { to: 1 }),
    makeNode("Mul", [`${output}_s`, `${weight}_scale`], [`${output}_scales`]),
    makeNode("Mul", [`${output}_f`, `${output}_scales`], [output]),
  ];
  return makeTestModel({
    feeds: { x: rows },
    shapes: rowShapes,
    nodes: [
      ...product("x", "m1", "first"),
      makeNode("Tanh", ["first"], ["first_t"]),
      ...product("first_t", "m2", "second"),
      makeNode("Tanh", ["second"], ["second_t"]),
      ...product("second_t", "m3", "y"),
    ],
    outputs: ["y"],
    initializers,
  });
}

/** Weights of 4 bits in blocks of 32, rounded down; only the products whose rows fill a block. */
export function makeBlockPeer(): TestModel {
  const initializers: Record<string, Tensor> = { m2: matrices.m2 };
  const product = (input: string, weight: "m1" | "m3", output: string): Node => {
    const [columns, count] = matrices[weight].shape;
    const values = float32Values(matrices[weight]);
    const bytes = new Uint8Array((count * columns) / 2);
    for (let row = 0; row < count; row++) {
      for (let column = 0; column < columns; column++) {
        const code = Math.min(Math.max(Math.floor(values[column * count + row] * 7) + 8, 0), 15);
        bytes[(row * columns + column) >> 1] |= code << (4 * (column % 2));
      }
    }
    initializers[`${weight}_Q4`] = uint8Tensor([count, 1, columns / 2], bytes);
    initializers[`${weight}_scales`] = float32Tensor([count, 1], new Float32Array(count).fill(1 / 7));
    const attributes = { K: columns, N: count, bits: 4, block_size: 32 };
    return ofMicrosoft(makeNode("MatMulNBits", [input, `${weight}_Q4`, `${weight}_scales`], [output], attributes));
  };
  return withMicrosoft(
    makeTestModel({
      feeds: { x: rows },
      shapes: rowShapes,
      nodes: [
        product("x", "m1", "a"),
        makeNode("Tanh", ["a"], ["b"]),
        makeNode("MatMul", ["b", "m2"], ["c"]),
        makeNode("Tanh", ["c"], ["d"]),
        product("d", "m3", "y"),
      ],
      outputs: ["y"],
      initializers,
    }),
  );
}

/** Another network of the same inputs and outputs. */
export function makeStranger(): TestModel {
  const pooled = makeNode("GlobalMaxPool", ["x"], ["p"]);
  return makeTestModel({
    feeds: { x: picture },
    shapes,
    nodes: [pooled, makeNode("Reshape", ["p", "shape"], ["s"]), makeNode("MatMul", ["s", "m"], ["y"])],
    outputs: ["y"],
    initializers: { m: someFloats([2, 3], 20), shape: int64Tensor([2], [-1, 2]) },
  });
}
