import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats, type TestModelParts } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, int64Tensor } from "../tensor/tensor.js";
import { chooseBatchSize, inBatches, type NamedFeeds } from "./batch.js";
import { withSession } from "./engine.js";
import { inferValueTypes } from "./infer-types.js";
import { withTaps } from "./taps.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const sample = (id: string, shape: readonly number[] = [1, 3], seed = id.length): NamedFeeds => ({
  id,
  feeds: new Map([["x", someFloats(shape, seed)]]),
});

async function all<Item>(items: AsyncIterable<Item>): Promise<readonly Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe("inBatches", () => {
  it("joins neighbours in front, by hand", async () => {
    const samples = [1, 3, 5].map((value) => ({
      id: `s${value}`,
      feeds: new Map([
        ["x", float32Tensor([1, 2], [value, value + 1])],
        ["n", int64Tensor([1], [value])],
      ]),
    }));
    const [first, second] = await all(inBatches(samples, 2));
    expect([first.id, second.id]).toEqual(["s1 … s3", "s5"]);
    expect(first.feeds.get("x")?.shape).toEqual([2, 2]);
    expect([...float32Values(first.feeds.get("x")!)]).toEqual([1, 2, 3, 4]);
    expect([...first.feeds.get("n")!.bytes()].filter((byte) => byte > 0)).toEqual([1, 3]);
    expect(second).toBe(samples[2]);
  });

  it("joins only equal shapes, and no scalars", async () => {
    const samples = [sample("a"), sample("b"), sample("c", [1, 4]), sample("d"), sample("e", []), sample("f", [])];
    const ids = (await all(inBatches(samples, 8))).map(({ id }) => id);
    expect(ids).toEqual(["a … b", "c", "d", "e", "f"]);
  });

  it("forms the same batches from a multiple of the size on, without the samples before it", async () => {
    const samples = [1, 2, 1, 1, 1, 1, 2, 2, 1].map((rows, i) => sample(`${i}`, [rows, 2], i + 1));
    const idsFrom = async (start: number) => (await all(inBatches(samples.slice(start), 3))).map(({ id }) => id);
    expect(await idsFrom(0)).toEqual(["0", "1", "2", "3 … 5", "6 … 7", "8"]);
    expect(await idsFrom(3)).toEqual(["3 … 5", "6 … 7", "8"]);
    expect(await idsFrom(6)).toEqual(["6 … 7", "8"]);
  });

  it("keeps every sample and its order, however many there are", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 3 })), fc.integer({ min: 1, max: 5 }), async (rows, size) => {
        const samples = rows.map((count, i) => sample(`${i}`, [count, 2], i + 1));
        const batches = await all(inBatches(samples, size));
        const values = (parts: readonly NamedFeeds[]) =>
          parts.flatMap(({ feeds }) => [...float32Values(feeds.get("x")!)]);
        expect(values(batches)).toEqual(values(samples));
        for (const { feeds } of batches) expect(feeds.get("x")!.shape[0]).toBeLessThanOrEqual(3 * size);
      }),
      { seed: 1, numRuns: 100 },
    );
  });
});

describe("chooseBatchSize", () => {
  const choose = async (parts: Partial<TestModelParts>, samples = [sample("a"), sample("b", [1, 3], 7)]) => {
    const { model } = makeTestModel({
      feeds: Object.fromEntries(samples[0].feeds),
      shapes: { x: ["batch", 3] },
      nodes: [makeNode("Relu", ["x"], ["y"])],
      outputs: ["y"],
      ...parts,
    });
    return chooseBatchSize(engine, model, await inferValueTypes(engine, model), samples);
  };

  it("takes many samples at once where the model keeps them apart", async () => {
    expect(await choose({})).toBe(16);
  });

  it("takes many where the outputs are whole numbers", async () => {
    expect(await choose({ nodes: [makeNode("Cast", ["x"], ["y"], { to: 7 })] })).toBe(16);
  });

  it("takes fewer of large samples, and one of huge ones", async () => {
    const wide = (size: number) => ({
      shapes: { x: ["batch", size] },
      samples: [1, 2].map((seed) => sample("a", [1, size], seed)),
    });
    const [large, huge] = [wide(250_000), wide(1_000_000)];
    expect(await choose({ shapes: large.shapes }, large.samples)).toBe(4);
    expect(await choose({ shapes: huge.shapes }, huge.samples)).toBe(1);
  });

  it.each<readonly [about: string, parts: Partial<TestModelParts>]>([
    ["has a fixed size in front", { shapes: { x: [1, 3] } }],
    ["gives an output of fixed size", { nodes: [makeNode("ReduceSum", ["x"], ["y"], { keepdims: 1 })] }],
    ["mixes samples", { nodes: [makeNode("Softmax", ["x"], ["y"], { axis: 0 })] }],
    [
      "only takes one when it runs",
      { nodes: [makeNode("Reshape", ["x", "s"], ["y"])], initializers: { s: int64Tensor([2], [1, 3]) } },
    ],
  ])("takes one where the model %s", async (_about, parts) => {
    expect(await choose(parts)).toBe(1);
  });

  it("takes one where samples differ in shape, are the same or there is only one", async () => {
    const shapes = { x: ["batch", "width"] };
    expect(await choose({ shapes }, [sample("a"), sample("b")])).toBe(1);
    expect(await choose({ shapes }, [sample("a"), sample("b", [1, 4])])).toBe(1);
    expect(await choose({ shapes }, [sample("a")])).toBe(1);
  });
});

describe("inferValueTypes", () => {
  it("knows every value of the main graph, the inputs and initializers included", async () => {
    const nodes = [
      makeNode("MatMul", ["x", "w"], ["m"]),
      makeNode("Shape", ["m"], ["s"]),
      makeNode("Split", ["m"], ["p", ""], { num_outputs: 2, axis: 1 }),
    ];
    const parts = { opset: 18, feeds: { x: someFloats([2, 3]) }, shapes: { x: ["n", 3] }, nodes, outputs: ["p", "s"] };
    const { model } = makeTestModel({ ...parts, initializers: { w: someFloats([3, 4]) } });
    const float = (...shape: readonly (number | string)[]) => ({ kind: "tensor", elementType: "float32", shape });
    expect(Object.fromEntries(await inferValueTypes(engine, model))).toEqual({
      w: float(3, 4),
      x: float("n", 3),
      m: float("n", 4),
      p: float("n", 2),
      s: { kind: "tensor", elementType: "int64", shape: [2] },
    });
  });
});

describe("withTaps", () => {
  const { model } = makeTestModel({
    feeds: { x: someFloats([2]) },
    nodes: [makeNode("Relu", ["x"], ["y"])],
    outputs: ["y"],
  });

  it("adds outputs, each once, and changes nothing where they are outputs", () => {
    expect(withTaps(model, ["x", "y", "x"]).graph.outputs.map(({ name }) => name)).toEqual(["y", "x"]);
    expect(withTaps(model, ["y"])).toBe(model);
  });
});

describe("withSession", () => {
  const { model, feeds } = makeTestModel({
    feeds: { x: someFloats([2]) },
    nodes: [makeNode("Relu", ["x"], ["y"])],
    outputs: ["y"],
  });

  it("closes the session whatever happens, and passes the error on", async () => {
    const failing = withSession(engine, model, {}, async (session) => {
      throw Object.assign(new Error("mine"), { session });
    });
    const error = await failing.catch((reason: Error & { session: { run(values: typeof feeds): unknown } }) => reason);
    expect(error).toMatchObject({ message: "mine" });
    await expect(error.session.run(feeds)).rejects.toThrow(expect.objectContaining({ code: "engine/run" }));
  });
});
