import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModel } from "../../test/models.js";
import { inferValueTypes } from "../engine/infer-types.js";
import type { Model } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values } from "../tensor/tensor.js";
import { prepareForIntegers } from "./for-integers.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const float = (value: number) => ({ kind: "float", value }) as const;

/** Large enough that the sum of squares counts beside the bias. */
const x = float32Tensor(
  [2, 7, 3, 2],
  float32Values(someFloats([2, 7, 3, 2])).map((value) => value * 20),
);

type Attributes = Readonly<Record<string, number | ReturnType<typeof float>>>;

function lrn(attributes: Attributes): TestModel {
  return makeTestModel({ feeds: { x }, nodes: [makeNode("LRN", ["x"], ["y"], attributes)], outputs: ["y"] });
}

async function prepare({ model }: TestModel): Promise<Model> {
  return prepareForIntegers(model, await inferValueTypes(engine, model));
}

describe("expandLrn", () => {
  // onnxruntime itself takes odd sizes only.
  it.each<Attributes>([
    { size: 5 },
    { size: 1 },
    { size: 3, beta: float(0.5) },
    { size: 5, alpha: float(0.01), beta: float(0.75), bias: float(2) },
    { size: 3, alpha: float(1) },
    { size: 13, alpha: float(0.1) },
  ])("computes what LRN computes: %j", async (attributes) => {
    const test = lrn(attributes);
    const prepared = await prepare(test);
    expect(prepared.graph.nodes.filter((node) => node.opType === "LRN")).toEqual([]);
    const [before, after] = [
      await runModel(engine, test.model, test.feeds),
      await runModel(engine, prepared, test.feeds),
    ];
    expect(largestDifference(before, after)).toBeLessThan(1e-6);
  });

  it("expands any number of them", async () => {
    const nodes = [
      makeNode("LRN", ["x"], ["a"], { size: 3 }),
      makeNode("LRN", ["a"], ["y"], { size: 5, beta: float(0.5) }),
    ];
    const test = makeTestModel({ feeds: { x: someFloats([2, 5, 4, 3]) }, nodes, outputs: ["y"] });
    const prepared = await prepare(test);
    expect(prepared.graph.nodes.filter((node) => node.opType === "LRN")).toEqual([]);
    const [before, after] = [
      await runModel(engine, test.model, test.feeds),
      await runModel(engine, prepared, test.feeds),
    ];
    expect(largestDifference(before, after)).toBeLessThan(1e-6);
  });

  it("leaves a power that is not made of square roots", async () => {
    const test = lrn({ size: 3, beta: float(0.6) });
    expect(await prepare(test)).toBe(test.model);
  });
});
