import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, refusing, runModel, someFloats } from "../../test/models.js";
import { normalize, statistics } from "../../test/normalization.js";
import { RecoupError } from "../errors.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, int64Tensor } from "../tensor/tensor.js";
import { cleanModel, cleanPasses } from "./index.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = someFloats([2, 4, 5, 5]);

/** Each pass has something to do only after a later one has run: a shape, a constant, an identity, a layer. */
const { model, feeds } = makeTestModel({
  feeds: { x },
  shapes: { x: ["batch", 4, 5, 5] },
  nodes: [
    makeNode("Identity", ["stored"], ["w"]),
    makeNode("Conv", ["x", "w"], ["c"], {}, "conv"),
    makeNode("Dropout", ["c"], ["d"]),
    normalize("d", "n"),
    makeNode("Shape", ["n"], ["s"]),
    makeNode("Gather", ["s", "last"], ["g"]),
    makeNode("Concat", ["minus", "g"], ["to"], { axis: 0 }),
    makeNode("Reshape", ["n", "to"], ["y"]),
    makeNode("Relu", ["y"], ["unread"]),
  ],
  outputs: ["y"],
  initializers: {
    stored: someFloats([6, 4, 3, 3], 3),
    last: int64Tensor([1], [3]),
    minus: int64Tensor([1], [-1]),
    ...statistics(6),
  },
});

describe("cleanModel", () => {
  it("runs the passes until nothing is left to do", async () => {
    const cleaned = await cleanModel(model, { engine });
    expect(cleaned.model.graph.nodes.map((node) => node.opType)).toEqual(["Conv", "Reshape"]);
    expect(cleaned.model.graph.producer("n")?.name).toBe("conv");
    expect(cleaned.steps.map((step) => step.name)).toEqual(cleanPasses.map((pass) => pass.name));
    expect(
      largestDifference(await runModel(engine, model, feeds), await runModel(engine, cleaned.model, feeds)),
    ).toBeLessThan(1e-5);
    expect((await cleanModel(cleaned.model, { engine })).model).toBe(cleaned.model);
  });

  it("asks the runtime for types once in a round, whatever passes want to know", async () => {
    // A shape that stays open, a target that does not, and a cast and a sum that change nothing.
    const nodes = [
      makeNode("Relu", ["x"], ["r"]),
      makeNode("Shape", ["r"], ["s"]),
      makeNode("Gather", ["s", "first"], ["batch"]),
      makeNode("Concat", ["batch", "rest"], ["to"], { axis: 0 }),
      makeNode("Reshape", ["r", "to"], ["flat"]),
      makeNode("Cast", ["flat"], ["same"], { to: 1 }),
      makeNode("Add", ["same", "zero"], ["sum"]),
      makeNode("Sigmoid", ["sum"], ["y"]),
    ];
    const initializers = {
      first: int64Tensor([1], [0]),
      rest: int64Tensor([1], [100]),
      zero: float32Tensor([1], Float32Array.of(0)),
    };
    const open = makeTestModel({
      feeds: { x },
      shapes: { x: ["batch", 4, 5, 5] },
      nodes,
      outputs: ["y"],
      initializers,
    });
    const counting = refusing(engine);
    const cleaned = await cleanModel(open.model, { engine: counting });
    expect(cleaned.model.graph.nodes.map((node) => node.opType)).toEqual(["Relu", "Reshape", "Sigmoid"]);
    // Once while there is something to do, and once to see that nothing is left.
    expect(counting.opened).toBe(2);
  });

  it("does what it can without a runtime that takes the model", async () => {
    const cleaned = await cleanModel(model, { engine: refusing(engine, "Conv", "Identity") });
    const left = cleaned.model.graph.nodes.map((node) => node.opType);
    expect(left).toEqual(["Conv", "Shape", "Gather", "Concat", "Reshape"]);
  });

  it("stops when it is told to", async () => {
    const gone = { ...refusing(engine), open: () => Promise.reject(new RecoupError("engine/cancelled", "cancelled")) };
    await expect(cleanModel(model, { engine: gone })).rejects.toMatchObject({ code: "engine/cancelled" });
  });
});
