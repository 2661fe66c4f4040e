import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModelParts } from "../../test/models.js";
import { stepNamed, walkThrough } from "../../test/walking.js";
import type { Feeds } from "../engine/engine.js";
import { buildGraph } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, int8Tensor, type Tensor } from "../tensor/tensor.js";
import { writeLines } from "./fold-affine.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const lines = { gain: Float64Array.of(2, 0.5, 1), offset: Float64Array.of(-1, 0, 0.25) };
const place = { axisFromEnd: -1, elementType: "float32" } as const;

/** The same model with lines behind one of its values, by nodes of their own. */
function slowly(model: Model, value: string, axisFromEnd: number): Model {
  const shape = [3, ...new Array<number>(-axisFromEnd - 1).fill(1)];
  const { graph } = model;
  const nodes = graph.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map((input) => (input === value ? "line" : input)),
  }));
  const behind = [makeNode("Mul", [value, "gain"], ["scaled"]), makeNode("Add", ["scaled", "offset"], ["line"])];
  const initializers = new Map([
    ...graph.initializers,
    ["gain", float32Tensor(shape, lines.gain)] as const,
    ["offset", float32Tensor(shape, lines.offset)] as const,
  ]);
  return withGraph(model, buildGraph({ ...graph, nodes: [...nodes, ...behind], initializers }));
}

const codes = int8Tensor([3, 4], [1, -5, 100, 3, 7, 20, -90, 4, 9, 0, -1, 50]);
const unit = float32Tensor([3], [0.01, 0.02, 0.03]);
const b = float32Tensor([3], [3, -4, 5]);
const conv = someFloats([3, 2, 2, 2], 3);

/** What is written, the value of the layer's node and that with its bias, and the kinds of node that may be left. */
const cases: readonly (readonly [
  about: string,
  nodes: TestModelParts["nodes"],
  initializers: Readonly<Record<string, Tensor>>,
  ends: readonly [product: string, value: string],
  added: readonly string[],
])[] = [
  ["Gemm", [makeNode("Gemm", ["x", "w", "b"], ["y"])], { w: someFloats([4, 3]), b }, ["y", "y"], []],
  [
    "turned Gemm",
    [makeNode("Gemm", ["x", "w", "b"], ["y"], { transB: 1 })],
    { w: someFloats([3, 4]), b },
    ["y", "y"],
    [],
  ],
  [
    "MatMul and Add",
    [makeNode("MatMul", ["x", "w"], ["m"]), makeNode("Add", ["m", "b"], ["y"])],
    { w: someFloats([4, 3]), b },
    ["m", "y"],
    [],
  ],
  ["MatMul without bias", [makeNode("MatMul", ["x", "w"], ["y"])], { w: someFloats([4, 3]) }, ["y", "y"], ["Add"]],
  [
    "codes",
    [
      makeNode("DequantizeLinear", ["codes", "unit"], ["w"], { axis: 0 }),
      makeNode("Gemm", ["x", "w", "b"], ["y"], { transB: 1 }),
    ],
    { codes, unit, b },
    ["y", "y"],
    [],
  ],
  [
    "codes with one scale for all",
    [makeNode("DequantizeLinear", ["codes", "one"], ["w"]), makeNode("Gemm", ["x", "w", "b"], ["y"], { transB: 1 })],
    { codes, one: float32Tensor([], [0.02]), b },
    ["y", "y"],
    ["Mul", "Add"],
  ],
  [
    "a weight that two read",
    [makeNode("MatMul", ["x", "w"], ["y"]), makeNode("MatMul", ["x", "w"], ["other"])],
    { w: someFloats([4, 3]) },
    ["y", "y"],
    ["Mul", "Add"],
  ],
];

describe("writeLines", () => {
  it.each(cases)(
    "keeps what the layer computes, with lines behind it: %s",
    async (_, nodes, initializers, ends, added) => {
      const [product, value] = ends;
      const behind = makeNode("Tanh", [value], ["z"]);
      const outputs = nodes.some(({ outputs: [name] }) => name === "other") ? ["z", "other"] : ["z"];
      const { model, feeds } = makeTestModel({
        feeds: { x: someFloats([5, 4], 2) },
        nodes: [...nodes, behind],
        outputs,
        initializers,
      });
      const graph = applyPatch(model.graph, writeLines(model.graph, { ...place, value, product }, lines));
      const [written, wanted] = await Promise.all(
        [withGraph(model, graph), slowly(model, value, -1)].map((one) => runModel(engine, one, feeds)),
      );
      expect(largestDifference(written, wanted)).toBeLessThan(1e-5);
      const count = (model.graph.nodes.length ?? 0) + added.length;
      expect(graph.nodes).toHaveLength(count);
    },
  );

  it("scales the kernels of a Conv", async () => {
    const { model, feeds } = makeTestModel({
      feeds: { x: someFloats([1, 2, 4, 4], 2) },
      nodes: [makeNode("Conv", ["x", "w", "b"], ["y"]), makeNode("Tanh", ["y"], ["z"])],
      outputs: ["z"],
      initializers: { w: conv, b },
    });
    const site = { ...place, axisFromEnd: -3, value: "y", product: "y" };
    const graph = applyPatch(model.graph, writeLines(model.graph, site, lines));
    const written = await runModel(engine, withGraph(model, graph), feeds);
    expect(largestDifference(written, await runModel(engine, slowly(model, "y", -3), feeds))).toBeLessThan(1e-5);
    expect(graph.nodes).toHaveLength(2);
  });
});

describe("channel compensation", () => {
  it("finds the scale and the shift that a channel lost, and leaves the others", async () => {
    const weight = (scale: number) => float32Tensor([2, 2], [scale, 0, 0, 1]);
    const model = (w: Tensor, bias: readonly number[]) =>
      makeTestModel({
        feeds: { x: float32Tensor([3, 2], new Float32Array(6)) },
        nodes: [makeNode("Gemm", ["x", "w", "b"], ["y"])],
        outputs: ["y"],
        initializers: { w, b: float32Tensor([2], bias) },
      }).model;
    const samples = [1, 2, 3, 4].map((seed): Feeds => new Map([["x", someFloats([3, 2], seed)]]));
    const [float, current] = [model(weight(1), [5, 6]), model(weight(0.8), [4, 6])];
    const { model: result, records } = await walkThrough(engine, float, current, samples, stepNamed("affine"));
    expect(records).toMatchObject([{ kind: "solved", remark: "lines for 1 of 2 channels" }]);
    const values = (name: string) => [...float32Values(result.graph.initializers.get(name) as Tensor)];
    // A gain of 1.25, of which a tenth of what goes beyond 1 is given up, as 1 / 1.1.
    const gain = 1 + 0.25 / 1.1;
    expect(values("w")[0]).toBeCloseTo(0.8 * gain, 4);
    expect(values("w").slice(1)).toEqual([0, 0, 1]);
    expect(values("b")[1]).toBe(6);
  });
});
