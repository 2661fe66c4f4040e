import { describe, expect, it } from "vitest";
import { makeBody, makeIf, makeTestModel, someFloats, type TestModelParts, yes } from "../../test/models.js";
import type { Node, ValueType } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { int64Tensor, type Tensor, uint8Tensor } from "../tensor/tensor.js";
import { type FoundLayers, findLayers } from "./index.js";

interface Given extends Pick<TestModelParts, "initializers"> {
  readonly nodes: readonly Node[];
  readonly feeds?: Readonly<Record<string, Tensor>>;
  /** Shapes of values that a runtime would have inferred. */
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
}

function find({ nodes, feeds = {}, shapes = {}, initializers }: Given): FoundLayers {
  const { graph } = makeTestModel({
    feeds: { x: someFloats([2, 3]), ...feeds },
    nodes,
    outputs: [],
    initializers,
  }).model;
  const typed = Object.entries(shapes).map(
    ([name, shape]) => [name, { kind: "tensor", elementType: "float32", shape } satisfies ValueType] as const,
  );
  return findLayers(graph, new Map(typed));
}

/** Layers as text: weight, input that reads it, axis of its channels, axis of the output's channels, what it multiplies. */
function layersOf(given: Given): readonly string[] {
  return find(given).layers.map(
    ({ weight, weightInput, channelAxis, outputAxis, data }) =>
      `${weight}@${weightInput} ${channelAxis} -> ${outputAxis} of ${data}`,
  );
}

const w = (...shape: readonly number[]) => ({ w: someFloats(shape) });

describe("findLayers", () => {
  const cases: readonly (readonly [about: string, layers: readonly string[], given: Given])[] = [
    ["Conv", ["w@1 0 -> 1 of x"], { nodes: [makeNode("Conv", ["x", "w"], ["y"])], initializers: w(4, 3, 3) }],
    [
      "ConvTranspose",
      ["w@1 1 -> 1 of x"],
      { nodes: [makeNode("ConvTranspose", ["x", "w"], ["y"])], initializers: w(4, 3, 3) },
    ],
    ["Gemm", ["w@1 1 -> -1 of x"], { nodes: [makeNode("Gemm", ["x", "w"], ["y"])], initializers: w(3, 4) }],
    [
      "Gemm with transB",
      ["w@1 0 -> -1 of x"],
      { nodes: [makeNode("Gemm", ["x", "w"], ["y"], { transB: 1 })], initializers: w(4, 3) },
    ],
    [
      "Gemm, constant on the left",
      ["w@0 0 -> -2 of x"],
      { nodes: [makeNode("Gemm", ["w", "x"], ["y"])], initializers: w(4, 2) },
    ],
    [
      "Gemm with transA, constant on the left",
      ["w@0 1 -> -2 of x"],
      { nodes: [makeNode("Gemm", ["w", "x"], ["y"], { transA: 1 })], initializers: w(2, 4) },
    ],
    ["MatMul", ["w@1 1 -> -1 of x"], { nodes: [makeNode("MatMul", ["x", "w"], ["y"])], initializers: w(3, 4) }],
    [
      "MatMul with stacked matrices",
      ["w@1 2 -> -1 of x"],
      { nodes: [makeNode("MatMul", ["x", "w"], ["y"])], initializers: w(2, 3, 4) },
    ],
    [
      "MatMul, constant on the left",
      ["w@0 0 -> -2 of x"],
      { nodes: [makeNode("MatMul", ["w", "x"], ["y"])], initializers: w(4, 2) },
    ],
    [
      "MatMul, constant on the left of a vector",
      ["w@0 0 -> -1 of x"],
      {
        nodes: [makeNode("MatMul", ["w", "x"], ["y"])],
        initializers: w(4, 3),
        feeds: { x: someFloats([3]) },
        shapes: { x: [3] },
      },
    ],
    [
      "MatMul behind a Transpose",
      ["w@1 0 -> -1 of x"],
      { nodes: [makeNode("Transpose", ["w"], ["t"]), makeNode("MatMul", ["x", "t"], ["y"])], initializers: w(4, 3) },
    ],
    [
      "Gather",
      ["w@0 0 -> -1 of undefined"],
      { nodes: [makeNode("Gather", ["w", "i"], ["y"])], initializers: w(64, 64), feeds: { i: int64Tensor([1], [3]) } },
    ],
    [
      "LSTM",
      ["w@1 1 -> -1 of x", "r@2 1 -> -1 of x"],
      {
        nodes: [makeNode("LSTM", ["x", "w", "r"], ["y"])],
        initializers: { ...w(1, 12, 3), r: someFloats([1, 12, 3]) },
      },
    ],
    [
      "RNN with one constant weight",
      ["w@1 1 -> -1 of x"],
      {
        nodes: [makeNode("RNN", ["x", "w", "r"], ["y"])],
        initializers: w(1, 3, 3),
        feeds: { r: someFloats([1, 3, 3]) },
      },
    ],
    [
      "a product of activations",
      [],
      { nodes: [makeNode("MatMul", ["x", "v"], ["y"])], feeds: { v: someFloats([3, 4]) } },
    ],
    ["a vector, which is no weight", [], { nodes: [makeNode("MatMul", ["x", "w"], ["y"])], initializers: w(3) }],
    [
      "integers",
      [],
      { nodes: [makeNode("MatMul", ["x", "w"], ["y"])], initializers: { w: uint8Tensor([3, 1], [1, 2, 3]) } },
    ],
    ["an empty weight", [], { nodes: [makeNode("MatMul", ["x", "w"], ["y"])], initializers: w(3, 0) }],
    [
      "another domain's operator",
      [],
      { nodes: [{ ...makeNode("MatMul", ["x", "w"], ["y"]), domain: "com.example" }], initializers: w(3, 4) },
    ],
    [
      "an initializer that callers may override",
      [],
      { nodes: [makeNode("MatMul", ["x", "w"], ["y"])], feeds: w(3, 4), initializers: w(3, 4) },
    ],
  ];
  it.each(cases)("describes %s", (_about, layers, given) => {
    expect(layersOf(given)).toEqual(layers);
  });

  it("offers products of activations, and no product with a constant", () => {
    const nodes = [makeNode("MatMul", ["x", "v"], ["y"]), makeNode("MatMul", ["x", "w"], ["z"])];
    const { products } = find({ nodes, feeds: { v: someFloats([3, 4]) }, initializers: w(3) });
    expect(products).toEqual([{ node: nodes[0], operands: ["x", "v"] }]);
  });

  const rejections: readonly (readonly [about: string, reason: RegExp, given: Given])[] = [
    [
      "a small table",
      /table of 60 elements/,
      { nodes: [makeNode("Gather", ["w", "i"], ["y"])], initializers: w(20, 3), feeds: { i: int64Tensor([1], [3]) } },
    ],
    [
      "columns of a table",
      /look up rows/,
      {
        nodes: [makeNode("Gather", ["w", "i"], ["y"], { axis: 1 })],
        initializers: w(64, 64),
        feeds: { i: int64Tensor([1], [3]) },
      },
    ],
    [
      "large constants of other operators",
      /constants of Einsum/,
      { nodes: [makeNode("Einsum", ["x", "w"], ["y"])], initializers: w(64, 64) },
    ],
    [
      "large constants of other domains",
      /constants of com\.example\.MatMul/,
      { nodes: [{ ...makeNode("MatMul", ["x", "w"], ["y"]), domain: "com.example" }], initializers: w(64, 64) },
    ],
    [
      "a weight that a body reads too",
      /subgraph reads w/,
      {
        nodes: [
          makeNode("MatMul", ["x", "w"], ["y"]),
          makeIf(
            "z",
            makeBody(["n"], [makeNode("Neg", ["w"], ["n"])]),
            makeBody(["a"], [makeNode("Abs", ["w"], ["a"])]),
          ),
        ],
        feeds: { c: yes },
        initializers: w(3, 4),
      },
    ],
  ];
  it.each(rejections)("gives a reason for %s", (_about, reason, given) => {
    const { layers, rejected } = find(given);
    expect(layers).toEqual([]);
    expect(rejected).toHaveLength(1);
    expect(rejected[0].reason).toMatch(reason);
  });

  it("counts the layers inside bodies, whatever graph around them holds their weights", () => {
    const inner = makeIf(
      "i",
      makeBody(["m"], [makeNode("MatMul", ["x", "w"], ["m"])]),
      makeBody(["n"], [makeNode("Neg", ["x"], ["n"])]),
    );
    const nodes = [
      makeIf(
        "y",
        makeBody(["i"], [inner]),
        makeBody(
          ["g"],
          [
            makeNode("Constant", [], ["k"], { value: someFloats([3, 4]) }),
            makeNode("Transpose", ["v"], ["t"]),
            makeNode("MatMul", ["x", "t"], ["f"]),
            makeNode("Gemm", ["f", "k"], ["g"]),
          ],
        ),
      ),
    ];
    const { layers, rejected } = find({
      nodes,
      feeds: { c: yes },
      initializers: { ...w(3, 3), v: someFloats([3, 3]) },
    });
    expect(layers).toEqual([]);
    expect(rejected).toEqual([{ node: nodes[0], reason: "layers inside If are not quantized: it holds 3" }]);
  });

  it("does not speak of a Transpose that a layer reads its weight through", () => {
    const turned = [makeNode("Transpose", ["w"], ["t"]), makeNode("MatMul", ["x", "t"], ["y"])];
    expect(find({ nodes: turned, initializers: w(64, 64) }).rejected).toEqual([]);
    const alone = [turned[0], makeNode("Add", ["x", "t"], ["y"])];
    expect(find({ nodes: alone, initializers: w(64, 64) }).rejected).toMatchObject([{ node: alone[0] }]);
  });

  it("does not speak of small constants", () => {
    expect(find({ nodes: [makeNode("Add", ["x", "w"], ["y"])], initializers: w(2, 3) }).rejected).toEqual([]);
  });
});
