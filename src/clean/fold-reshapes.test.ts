import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { int64Tensor, integerValues } from "../tensor/tensor.js";
import { foldReshapes } from "./fold-reshapes.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** What exporters write for `x.reshape(batch, 12)`. */
const nodes = [
  makeNode("Shape", ["x"], ["s"]),
  makeNode("Gather", ["s", "axes"], ["front"]),
  makeNode("Concat", ["front", "twelve"], ["target"], { axis: 0 }),
  makeNode("Reshape", ["x", "target"], ["y"]),
];
const initializers = { axes: int64Tensor([1], [0]), twelve: int64Tensor([1], [12]) };

describe("foldReshapes", () => {
  it("leaves one open size to the runtime", async () => {
    const feeds = { x: someFloats([2, 3, 4]) };
    const test = makeTestModel({ feeds, shapes: { x: ["batch", 3, 4] }, nodes, outputs: ["y"], initializers });
    const { model, changed } = await foldReshapes.run(test.model, { engine });
    expect(changed).toHaveLength(1);
    const reshape = model.graph.producer("y")!;
    expect(integerValues(model.graph.constant(reshape.inputs[1])!)).toEqual([-1, 12]);
    const other = new Map([["x", someFloats([5, 3, 4])]]);
    for (const fed of [test.feeds, other]) {
      const [before, after] = [await runModel(engine, test.model, fed), await runModel(engine, model, fed)];
      expect(largestDifference(before, after)).toBe(0);
    }
  });

  it("keeps a target with two open sizes", async () => {
    const feeds = { x: someFloats([2, 3, 4]) };
    const shapes = { x: ["batch", "tokens", 4] };
    const both = { ...initializers, axes: int64Tensor([2], [1, 0]), twelve: int64Tensor([1], [4]) };
    const test = makeTestModel({ feeds, shapes, nodes, outputs: ["y"], initializers: both });
    const { model, changed } = await foldReshapes.run(test.model, { engine });
    expect(changed).toEqual([]);
    expect(model).toBe(test.model);
  });
});
