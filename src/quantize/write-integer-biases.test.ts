import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats } from "../../test/models.js";
import { countFloatLayers, optimize } from "../../test/optimized.js";
import { quantizeTestModel, runShipped } from "../../test/quantizing.js";
import { withSession } from "../engine/engine.js";
import type { Graph } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, int8Tensor, integerValues, type Tensor, uint8Tensor } from "../tensor/tensor.js";
import { writeIntegerBiases } from "./write-integer-biases.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** A Gemm of two columns on a grid: steps of 0.5 times steps of 0.25 and 0.125. */
function gridded(bias: Tensor): Graph {
  return makeTestModel({
    feeds: { x: someFloats([2, 3]) },
    nodes: [
      makeNode("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
      makeNode("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
      makeNode("DequantizeLinear", ["w", "ws", "wz"], ["wd"], { axis: 1 }),
      makeNode("Gemm", ["xd", "wd", "b"], ["y"]),
    ],
    initializers: {
      xs: float32Tensor([], [0.5]),
      xz: uint8Tensor([], [128]),
      w: int8Tensor([3, 2], [1, 2, 3, 4, 5, 6]),
      ws: float32Tensor([2], [0.25, 0.125]),
      wz: int8Tensor([2], [0, 0]),
      b: bias,
    },
    outputs: ["y"],
  }).model.graph;
}

function rewrite(graph: Graph): Graph {
  return applyPatch(graph, writeIntegerBiases(graph));
}

const picture = someFloats([1, 2, 6, 6]);

describe("writeIntegerBiases", () => {
  it("counts in units of input scale times weight scale, ties to even", () => {
    const graph = rewrite(gridded(float32Tensor([2], [1.3125, -7])));
    const dequantize = graph.producer(graph.producer("y")!.inputs[2])!;
    const [codes, units, zeros] = dequantize.inputs.map((input) => graph.constant(input)!);
    expect([codes.type, integerValues(codes)]).toEqual(["int32", [10, -112]]);
    expect([...float32Values(units)]).toEqual([0.125, 0.0625]);
    expect(integerValues(zeros)).toEqual([0, 0]);
    expect(graph.initializers.has("b")).toBe(false);
  });

  it("makes a row of a bias of two dimensions", () => {
    const graph = rewrite(gridded(float32Tensor([1, 2], [1, 2])));
    const [codes] = graph.producer(graph.producer("y")!.inputs[2])!.inputs;
    expect(graph.constant(codes)?.shape).toEqual([2]);
  });

  it.each([
    ["a column", float32Tensor([2, 1], [1, 2])],
    ["a scalar", float32Tensor([], [1])],
    ["beyond int32", float32Tensor([2], [1, 1e9])],
  ])("leaves a bias that is %s", (_about, bias) => {
    expect(writeIntegerBiases(gridded(bias))).toMatchObject({ remove: [], add: [] });
  });

  it("gives two layers that share a bias each its own units, and room for it beside tiny weights", async () => {
    const tiny = float32Values(someFloats([3, 2, 2, 2], 2)).map((value) => value * 1e-9);
    const test = makeTestModel({
      feeds: { x: picture },
      nodes: [
        makeNode("Conv", ["x", "w", "b"], ["a"]),
        makeNode("Conv", ["x", "v", "b"], ["c"]),
        makeNode("Sum", ["a", "c"], ["y"]),
      ],
      initializers: {
        w: float32Tensor([3, 2, 2, 2], tiny),
        v: someFloats([3, 2, 2, 2], 3),
        b: float32Tensor([3], [-1000, 0.5, 1000]),
      },
      outputs: ["y"],
    });
    const { model } = await quantizeTestModel(engine, test);
    const codes = ["b_quantized", "b_quantized_2"].map((name) => integerValues(model.graph.constant(name)!));
    expect(codes[0]).not.toEqual(codes[1]);
    for (const code of codes.flat()) expect(Math.abs(code)).toBeLessThan(2 ** 30 * 1.001);
    expect(countFloatLayers(await optimize(model))).toBe(0);
    const options = { taps: ["a", "c"] };
    const [float, exact] = await Promise.all(
      [test.model, model].map((one) =>
        withSession(engine, one, options, async (session) => (await session.run(test.feeds)).outputs),
      ),
    );
    expect(largestDifference(float, exact)).toBeLessThan(0.01);
    expect(
      largestDifference(await runModel(engine, model, test.feeds), await runShipped(engine, model, test.feeds)),
    ).toBe(0);
  });

  it("is not needed where a convolution has no bias", async () => {
    const test = makeTestModel({
      feeds: { x: picture },
      nodes: [makeNode("Conv", ["x", "w"], ["a"]), makeNode("Tanh", ["a"], ["y"])],
      initializers: { w: someFloats([3, 2, 2, 2], 2) },
      outputs: ["y"],
    });
    const { model } = await quantizeTestModel(engine, test);
    expect([...model.graph.initializers.values()].filter((tensor) => tensor.type === "int32")).toEqual([]);
    expect(countFloatLayers(await optimize(model))).toBe(0);
  });
});
