import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, refusing, runModel, someFloats } from "../../test/models.js";
import { buildGraph, type Node } from "../graph/graph.js";
import { withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { int64Tensor, integerValues } from "../tensor/tensor.js";
import { foldShapes } from "./fold-shapes.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = someFloats([2, 3, 4]);
const open = { x: ["batch", 3, 4] };
const initializers = {
  w: someFloats([4, 5]),
  first: int64Tensor([], [0]),
  second: int64Tensor([], [1]),
  both: int64Tensor([2], [-1, 1]),
  from: int64Tensor([1], [1]),
  to: int64Tensor([1], [2 ** 63]),
};

const product = makeNode("MatMul", ["x", "w"], ["p"]);

async function fold(nodes: readonly Node[], shapes?: Readonly<Record<string, readonly (string | number)[]>>) {
  const { model, feeds } = makeTestModel({
    feeds: { x },
    shapes,
    nodes: [product, ...nodes],
    outputs: ["y"],
    initializers,
  });
  const result = await foldShapes.run(model, { engine });
  const [before, after] = [await runModel(engine, model, feeds), await runModel(engine, result.model, feeds)];
  expect(largestDifference(before, after)).toBe(0);
  return { model, result, graph: result.model.graph };
}

describe("foldShapes", () => {
  it("computes the shape and size of values whose sizes are fixed", async () => {
    const { graph } = await fold([
      makeNode("Shape", ["p"], ["s"]),
      makeNode("Shape", ["x"], ["t"], { start: 1, end: -1 }),
      makeNode("Size", ["p"], ["n"]),
      makeNode("Concat", ["s", "t"], ["c"], { axis: 0 }),
      makeNode("Add", ["c", "n"], ["y"]),
    ]);
    expect(graph.nodes.map((node) => node.opType)).toEqual(["MatMul", "Concat", "Add"]);
    expect(integerValues(graph.constant("s")!)).toEqual([2, 3, 5]);
    expect(integerValues(graph.constant("t")!)).toEqual([3]);
    expect(integerValues(graph.constant("n")!)).toEqual([30]);
  });

  it("takes fixed sizes out of a shape that is not", async () => {
    const { graph } = await fold(
      [
        makeNode("Shape", ["p"], ["s"]),
        makeNode("Gather", ["s", "second"], ["g"]),
        makeNode("Gather", ["s", "both"], ["h"]),
        makeNode("Slice", ["s", "from", "to"], ["l"]),
        makeNode("Gather", ["s", "first"], ["b"]),
        makeNode("Sum", ["g", "b"], ["q"]),
        makeNode("Mul", ["h", "l"], ["r"]),
        makeNode("Mul", ["q", "r"], ["y"]),
      ].map((node) => (node.opType === "Sum" ? { ...node, opType: "Add" } : node)),
      open,
    );
    expect(graph.constant("g")?.shape).toEqual([]);
    expect(integerValues(graph.constant("h")!)).toEqual([5, 3]);
    expect(integerValues(graph.constant("l")!)).toEqual([3, 5]);
    expect(graph.constant("b")).toBeUndefined();
  });

  it("leaves sizes that depend on the input", async () => {
    const nodes = [makeNode("Shape", ["p"], ["s"]), makeNode("Gather", ["s", "first"], ["y"])];
    const { model, result } = await fold(nodes, open);
    expect(result.model).toBe(model);
  });

  it("does not believe what an exporter noted on inner values", async () => {
    const nodes = [product, makeNode("Shape", ["p"], ["s"]), makeNode("Neg", ["s"], ["y"])];
    const { model } = makeTestModel({ feeds: { x }, shapes: { x: undefined }, nodes, outputs: ["y"], initializers });
    const noted = { name: "p", type: { kind: "tensor", elementType: "float32", shape: [1, 3, 5] } } as const;
    const remarked = withGraph(model, buildGraph({ ...model.graph, valueInfo: new Map([["p", noted]]) }));
    expect((await foldShapes.run(remarked, { engine })).model).toBe(remarked);
  });

  it("leaves a shape that leaves the graph, and a model that the runtime does not load", async () => {
    const { model } = makeTestModel({ feeds: { x }, nodes: [makeNode("Shape", ["x"], ["y"])], outputs: ["y"] });
    expect((await foldShapes.run(model, { engine })).model).toBe(model);
    const nodes = [product, makeNode("Shape", ["p"], ["s"]), makeNode("Neg", ["s"], ["y"])];
    const inner = makeTestModel({ feeds: { x }, nodes, outputs: ["y"], initializers }).model;
    expect((await foldShapes.run(inner, { engine: refusing(engine, "MatMul") })).model).toBe(inner);
  });

  it("asks without the weights", async () => {
    const nodes = [product, makeNode("Shape", ["p"], ["s"]), makeNode("Neg", ["s"], ["y"])];
    const { model } = makeTestModel({
      feeds: { x },
      nodes,
      outputs: ["y"],
      initializers: { ...initializers, w: someFloats([4, 500]) },
    });
    const sizes: number[] = [];
    const watching = {
      ...engine,
      open: async (asked: typeof model) => {
        sizes.push([...asked.graph.initializers.values()].reduce((sum, tensor) => sum + tensor.sizeBytes, 0));
        return engine.open(asked);
      },
    };
    const { graph } = (await foldShapes.run(model, { engine: watching })).model;
    expect(integerValues(graph.constant("s")!)).toEqual([2, 3, 500]);
    expect(sizes).toEqual([0]);
  });
});
