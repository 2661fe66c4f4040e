import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, runModel, someFloats, type TestModel } from "../../test/models.js";
import { makeResidualNet, makeStemless, makeTransformer } from "../../test/networks.js";
import { roundWeights, stepNamed, walkThrough } from "../../test/walking.js";
import type { Feeds } from "../engine/engine.js";
import { inferValueTypes } from "../engine/infer-types.js";
import type { Model } from "../graph/model.js";
import { elementTypeOf } from "../graph/value-types.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Values, floatTensor, type Tensor } from "../tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const steps = ["bc", "affine", "qwt", "nbc"];

/** The same network in half precision. */
function inHalf({ model, feeds }: TestModel): TestModel {
  const half = (tensor: Tensor) =>
    tensor.type === "float32" ? floatTensor("float16", tensor.shape, float32Values(tensor)) : tensor;
  return makeTestModel({
    feeds: Object.fromEntries([...feeds].map(([name, tensor]) => [name, half(tensor)])),
    shapes: Object.fromEntries(
      [...feeds].map(([name, { shape }]) => [name, shape.map((size, axis) => (axis === 0 ? "n" : size))]),
    ),
    nodes: model.graph.nodes,
    initializers: Object.fromEntries([...model.graph.initializers].map(([name, tensor]) => [name, half(tensor)])),
    outputs: model.graph.outputs.map(({ name }) => name),
  });
}

async function errorOf(float: Model, current: Model, samples: readonly Feeds[]): Promise<number> {
  let sum = 0;
  for (const feeds of samples) {
    const [wanted, found] = await Promise.all([float, current].map((model) => runModel(engine, model, feeds)));
    for (const [name, tensor] of wanted) {
      const values = float32Values(found.get(name) as Tensor);
      for (const [i, value] of float32Values(tensor).entries()) sum += (value - values[i]) ** 2;
    }
  }
  return sum;
}

describe.each(steps)("%s in half precision", (name) => {
  it.each([
    ["a residual network", makeResidualNet],
    ["residual blocks without a stem", makeStemless],
    ["a transformer", makeTransformer],
  ])("lowers the error of %s and keeps its types", async (_about, make) => {
    const { model: float, feeds } = inHalf(make());
    const [[input, { shape }]] = feeds;
    const sample = (seed: number): Feeds =>
      new Map([
        [
          input,
          floatTensor("float16", [4, ...shape.slice(1)], float32Values(someFloats([4, ...shape.slice(1)], seed))),
        ],
      ]);
    const current = roundWeights(float);
    const fitted = Array.from({ length: 40 }, (_, i) => sample(40 + i));
    const { model, records } = await walkThrough(engine, float, current, fitted, stepNamed(name));
    expect(records.some(({ kind }) => kind === "solved")).toBe(true);
    const [before, after] = await Promise.all([float, model].map((one) => inferValueTypes(engine, one)));
    for (const value of float.graph.nodes.flatMap(({ outputs }) => outputs)) {
      expect(elementTypeOf(after, value)).toBe(elementTypeOf(before, value));
    }
    const unseen = [90, 91, 92].map(sample);
    const [given, corrected] = [await errorOf(float, current, unseen), await errorOf(float, model, unseen)];
    expect(corrected).toBeLessThan(given);
    expect(corrected).toBeGreaterThan(0);
  });
});

describe.each(steps)("%s on maps of open size", (name) => {
  it("fits on samples of several sizes and holds for others", async () => {
    const { model, feeds } = makeResidualNet();
    const float = makeTestModel({
      feeds: Object.fromEntries(feeds),
      shapes: { x: ["n", 2, "height", "width"] },
      nodes: model.graph.nodes,
      initializers: Object.fromEntries(model.graph.initializers),
      outputs: ["y"],
    }).model;
    const current = roundWeights(float);
    const sample = (seed: number, height: number, width: number): Feeds =>
      new Map([["x", someFloats([1, 2, height, width], seed)]]);
    const sizes = [
      [6, 6],
      [5, 9],
      [8, 4],
    ] as const;
    const fitted = Array.from({ length: 12 }, (_, i) => sample(40 + i, sizes[i % 3][0], sizes[i % 3][1]));
    const { model: corrected, records } = await walkThrough(engine, float, current, fitted, stepNamed(name));
    expect(records.some(({ kind }) => kind === "solved")).toBe(true);
    const unseen = [sample(80, 7, 7), sample(81, 3, 10), sample(82, 6, 6)];
    expect(await errorOf(float, corrected, unseen)).toBeLessThan(await errorOf(float, current, unseen));
  });
});
