import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModelParts } from "../../test/models.js";
import { countFloatLayers, optimize } from "../../test/optimized.js";
import { quantizeTestModel } from "../../test/quantizing.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import type { ValueTypes } from "../graph/value-types.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, int8Tensor, type Tensor, uint8Tensor } from "../tensor/tensor.js";
import { writeIntegerProducts } from "./write-integer-products.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** x·w + b with both factors quantized, and the types that the float network had. */
function gridded(x: Tensor, b: Tensor, isBiasFirst = false) {
  const w = [x.shape.at(-1)!, 4];
  const read = isBiasFirst ? ["b", "p"] : ["p", "b"];
  const add = makeNode("Add", read, ["s"]);
  const { model, feeds } = makeTestModel({
    feeds: { x },
    nodes: [
      makeNode("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
      makeNode("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
      makeNode("DequantizeLinear", ["wq", "ws", "wz"], ["wd"]),
      makeNode("MatMul", ["xd", "wd"], ["p"]),
      add,
      makeNode("Tanh", ["s"], ["y"]),
    ],
    initializers: {
      xs: float32Tensor([], [1 / 128]),
      xz: uint8Tensor([], [128]),
      wq: int8Tensor(
        w,
        Array.from(float32Values(someFloats(w, 2)), (value) => Math.round(value * 127)),
      ),
      ws: float32Tensor([], [1 / 127]),
      wz: int8Tensor([], [0]),
      b,
    },
    outputs: ["y"],
  });
  const float = makeTestModel({
    feeds: { x },
    nodes: [makeNode("MatMul", ["x", "w"], ["p"]), add, makeNode("Tanh", ["s"], ["y"])],
    initializers: { w: someFloats(w, 2), b },
    outputs: ["y"],
  }).model.graph;
  const shapes: readonly (readonly [string, readonly number[]])[] = [
    ["x", x.shape],
    ["w", w],
  ];
  const types: ValueTypes = new Map(
    shapes.map(([name, shape]) => [name, { kind: "tensor", elementType: "float32", shape }] as const),
  );
  const graph = applyPatch(model.graph, writeIntegerProducts(model.graph, float, types));
  return { model, feeds, rewritten: withGraph(model, graph) };
}

function operators({ graph }: Model): string {
  return graph.nodes
    .map((node) => node.opType)
    .join(" ")
    .replace(/.*DequantizeLinear /, "");
}

const matrix = someFloats([3, 6]);
const stack = someFloats([2, 3, 6]);
const row = someFloats([4], 3);

describe("writeIntegerProducts", () => {
  const cases: readonly (readonly [about: string, x: Tensor, b: Tensor, operators: string])[] = [
    ["takes the bias into a Gemm", matrix, row, "Gemm Tanh"],
    ["takes a bias of two dimensions into a Gemm", matrix, someFloats([1, 4], 3), "Gemm Tanh"],
    [
      "leaves a bias of more dimensions than the product behind a Gemm",
      matrix,
      someFloats([1, 1, 4], 3),
      "Gemm Add Tanh",
    ],
    ["leaves an addend that is no bias behind a Gemm", matrix, someFloats([3, 4], 3), "Gemm Add Tanh"],
    ["leaves a bias of one value behind a Gemm", matrix, float32Tensor([1], [0.5]), "Gemm Add Tanh"],
    ["leaves a bias beyond int32 behind a Gemm", matrix, float32Tensor([4], [1e9, 0, 0, 1]), "Gemm Add Tanh"],
    ["subtracts what is added to stacked matrices", stack, row, "MatMul Sub Tanh"],
    ["subtracts a bias of as many dimensions", stack, someFloats([1, 1, 4], 3), "MatMul Sub Tanh"],
  ];
  it.each(cases)("%s", async (_about, x, b, expected) => {
    for (const isBiasFirst of [false, true]) {
      const { model, feeds, rewritten } = gridded(x, b, isBiasFirst);
      expect(operators(rewritten)).toBe(expected);
      const [before, after] = [await runModel(engine, model, feeds), await runModel(engine, rewritten, feeds)];
      expect(largestDifference(before, after)).toBeLessThan(1e-6);
    }
  });

  it("keeps a product of stacked matrices on integers, which onnxruntime by itself does not", async () => {
    const { model, rewritten } = gridded(stack, row);
    expect(countFloatLayers(await optimize(model))).toBe(1);
    expect(countFloatLayers(await optimize(rewritten))).toBe(0);
  });

  const products: readonly (readonly [about: string, parts: TestModelParts])[] = [
    [
      "of a vector",
      {
        feeds: { x: someFloats([6]) },
        nodes: [makeNode("MatMul", ["x", "w"], ["p"]), makeNode("Add", ["p", "b"], ["y"])],
        initializers: { w: someFloats([6, 4], 2), b: row },
        outputs: ["y"],
      },
    ],
    [
      "that others read",
      {
        feeds: { x: matrix },
        nodes: [
          makeNode("MatMul", ["x", "w"], ["p"]),
          makeNode("Add", ["p", "b"], ["y"]),
          makeNode("Tanh", ["p"], ["z"]),
        ],
        initializers: { w: someFloats([6, 4], 2), b: row },
        outputs: ["y", "z"],
      },
    ],
    [
      "in float",
      {
        feeds: { x: matrix },
        nodes: [makeNode("MatMul", ["w", "x"], ["p"]), makeNode("Add", ["p", "b"], ["y"])],
        initializers: { w: someFloats([4, 3], 2), b: someFloats([6], 3) },
        outputs: ["y"],
      },
    ],
  ];
  it.each(products)("leaves a product %s", async (_about, parts) => {
    const { model } = await quantizeTestModel(engine, makeTestModel(parts));
    expect(model.graph.producer("p")?.opType).toBe("MatMul");
    expect(model.graph.producer("y")?.opType).toBe("Add");
  });

  it("works on what a compensation has added a bias to", async () => {
    const test = makeTestModel({
      feeds: { x: stack },
      nodes: [makeNode("MatMul", ["x", "w"], ["p"]), makeNode("Tanh", ["p"], ["y"])],
      initializers: { w: someFloats([6, 4], 2) },
      outputs: ["y"],
    });
    const { model } = await quantizeTestModel(engine, test, { formats: [{ weight: { bits: 2 } }], steps: ["bc"] });
    expect(model.graph.producer("p")?.opType).toBe("Sub");
    expect(countFloatLayers(await optimize(model))).toBe(0);
  });
});
