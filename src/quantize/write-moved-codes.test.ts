import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats } from "../../test/models.js";
import type { Node } from "../graph/graph.js";
import { withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, int64Tensor, uint8Tensor } from "../tensor/tensor.js";
import { writeMovedCodes } from "./write-moved-codes.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** x on a grid, whatever is between `d` and `m`, and on the same grid again. */
function build(between: readonly Node[], grid: readonly [string, string] = ["s", "z"]) {
  const read = new Set(between.flatMap((node) => node.inputs));
  const more = {
    pads: int64Tensor([8], [0, 1, 1, 0, 0, 2, 0, 1]),
    few: int64Tensor([2], [1, 2]),
    axes: int64Tensor([1], [3]),
    zero: float32Tensor([], [0]),
    half: float32Tensor([], [0.5]),
    t: float32Tensor([], [0.25]),
  };
  const initializers = Object.fromEntries(
    Object.entries(more).filter(([name]) => read.has(name) || grid.includes(name)),
  );
  return makeTestModel({
    opset: 18,
    feeds: { x: someFloats([1, 2, 4, 4]) },
    nodes: [
      makeNode("QuantizeLinear", ["x", "s", "z"], ["q"]),
      makeNode("DequantizeLinear", ["q", "s", "z"], ["d"]),
      ...between,
      makeNode("QuantizeLinear", ["m", ...grid], ["p"]),
      makeNode("DequantizeLinear", ["p", ...grid], ["y"]),
    ],
    initializers: { s: float32Tensor([], [0.0078125]), z: uint8Tensor([], [100]), ...initializers },
    outputs: ["y"],
  });
}

describe("writeMovedCodes", () => {
  it.each<readonly [about: string, node: Node]>([
    ["Pad with zeros", makeNode("Pad", ["d", "pads"], ["m"])],
    ["Pad with a zero that is given", makeNode("Pad", ["d", "pads", "zero"], ["m"])],
    ["Pad of some axes", makeNode("Pad", ["d", "few", "", "axes"], ["m"])],
    ["Pad with what stands at the edge", makeNode("Pad", ["d", "pads"], ["m"], { mode: "edge" })],
    ["SpaceToDepth", makeNode("SpaceToDepth", ["d"], ["m"], { blocksize: 2 })],
  ])("moves codes in %s", async (_about, node) => {
    const { model, feeds } = build([node]);
    const graph = applyPatch(model.graph, writeMovedCodes(model.graph));
    expect(graph.nodes.map(({ opType }) => opType)).toEqual(["QuantizeLinear", node.opType, "DequantizeLinear"]);
    expect(graph.producer("p")?.opType).toBe(node.opType);
    const [before, after] = [
      await runModel(engine, model, feeds),
      await runModel(engine, withGraph(model, graph), feeds),
    ];
    expect(largestDifference(before, after)).toBe(0);
  });

  it("keeps a DequantizeLinear that others read", () => {
    const { model } = build([makeNode("Pad", ["d", "pads"], ["m"]), makeNode("Neg", ["d"], ["n"])]);
    const graph = applyPatch(model.graph, writeMovedCodes(model.graph));
    expect(graph.producer("d")?.opType).toBe("DequantizeLinear");
  });

  it.each<readonly [about: string, between: readonly Node[], scale: string]>([
    ["another number than zero is filled in", [makeNode("Pad", ["d", "pads", "half"], ["m"])], "s"],
    ["the grid changes", [makeNode("Pad", ["d", "pads"], ["m"])], "t"],
    ["others read the result", [makeNode("Pad", ["d", "pads"], ["m"]), makeNode("Neg", ["m"], ["n"])], "s"],
    ["the runtime does it by itself", [makeNode("Transpose", ["d"], ["m"])], "s"],
  ])("changes nothing where %s", (_about, between, scale) => {
    expect(writeMovedCodes(build(between, [scale, "z"]).model.graph)).toMatchObject({ remove: [], add: [] });
  });
});
