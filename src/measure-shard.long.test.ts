import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, refusing, someFloats } from "../test/models.js";
import { makeResidualNet } from "../test/networks.js";
import type { Dimension } from "./graph/graph.js";
import type { Model } from "./graph/model.js";
import { makeNode } from "./graph/node.js";
import { encodeModel, joinChunks, samplesOf } from "./index.js";
import { measureShard } from "./measure-shard.js";
import { createRuntimeEngine } from "./node/runtime-engine.js";
import { type QuantizeTask, quantizeModel } from "./pipeline.js";
import { rangeEstimators } from "./quantize/estimators/index.js";
import { parseRecipe, type RecipeInput } from "./recipe/recipe.js";
import { describeData } from "./shards/header.js";
import { encodeStatistics, readStatistics, type ShardStatistics } from "./shards/statistics-file.js";
import { float32Tensor, float64Values } from "./tensor/tensor.js";
import { version } from "./version.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** A network of two convolutions whose values are too many for a histogram of all of them, in pictures of any size. */
function makeWideNet(shape: readonly Dimension[] = ["batch", 2, "height", "width"]): Model {
  const pads = { pads: [1, 1, 1, 1] };
  return makeTestModel({
    feeds: { x: someFloats([1, 2, 8, 8]) },
    shapes: { x: shape },
    nodes: [
      makeNode("Conv", ["x", "w0", "b0"], ["a"], pads),
      makeNode("Relu", ["a"], ["r"]),
      makeNode("Conv", ["r", "w1"], ["c"], pads),
      makeNode("GlobalAveragePool", ["c"], ["p"]),
      makeNode("Flatten", ["p"], ["f"]),
      makeNode("MatMul", ["f", "w2"], ["y"]),
    ],
    outputs: ["y"],
    initializers: {
      w0: someFloats([6, 2, 3, 3], 1),
      b0: someFloats([6], 2),
      w1: someFloats([5, 6, 3, 3], 3),
      w2: someFloats([5, 3], 4),
    },
  }).model;
}

/** Samples that differ in size and in mean. */
function someSamples(shapes: readonly (readonly number[])[]) {
  return shapes.map((shape, i) => {
    const values = Float64Array.from(float64Values(someFloats(shape, 50 + i)), (x) => x * (1 + (i % 5)) + 0.1 * i);
    return { x: float32Tensor(shape, values) };
  });
}

const repeat = (count: number, shape: readonly number[]) => Array.from({ length: count }, () => shape);
/** Batches of these end where shapes change, and at multiples of 16. */
const mixed = [...repeat(21, [1, 2, 40, 40]), ...repeat(10, [1, 2, 33, 40]), ...repeat(8, [1, 2, 40, 40])];

const wide = makeWideNet();
const wideSamples = samplesOf(wide, someSamples(mixed), { description: "noise" });
const taskOf = (recipe: RecipeInput = {}): QuantizeTask => ({
  model: wide,
  recipe: parseRecipe(recipe),
  samples: wideSamples,
  engine,
});
const ranged = (range: string): RecipeInput => ({ formats: [{ activation: { range } }] });

/** All shards, as they come back from their files. */
async function shardsOf(task: QuantizeTask, count: number): Promise<readonly ShardStatistics[]> {
  const shards: ShardStatistics[] = [];
  for (let index = 1; index <= count; index++) {
    const { statistics } = await measureShard({ ...task, shard: { index, count } });
    shards.push(await readStatistics(await encodeStatistics(statistics), `${index}.statistics`));
  }
  return shards;
}

async function bytesOf(task: QuantizeTask): Promise<Uint8Array> {
  return joinChunks(encodeModel((await quantizeModel(task)).model).chunks);
}

const isSame = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

describe("shards, merged", () => {
  it.each(rangeEstimators.map(({ name }) => name))("give the model of one run: %s", async (range) => {
    const task = taskOf(ranged(range));
    const shards = await shardsOf(task, 3);
    expect(shards.map(({ header }) => header.data.samples)).toEqual(
      range === "moving-average" ? [13, 13, 13] : [16, 16, 7],
    );
    expect(isSame(await bytesOf({ ...task, shards: shards.toReversed() }), await bytesOf(task))).toBe(true);
  });

  it("give the model of one run at any number of shards", async () => {
    const { model, feeds } = makeResidualNet();
    const [[name, { shape }]] = feeds;
    const samples = samplesOf(
      model,
      Array.from({ length: 70 }, (_, i) => ({ [name]: someFloats(shape, 200 + i) })),
    );
    const task = { model, recipe: parseRecipe({ steps: ["bc"], samples: 68, seed: 3 }), samples, engine };
    const whole = await bytesOf(task);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 5 }), async (count) => {
        expect(isSame(await bytesOf({ ...task, shards: await shardsOf(task, count) }), whole)).toBe(true);
      }),
      { numRuns: 5, seed: 1, examples: [[1], [5]] },
    );
  });

  it("are seen by one batch after the other", async () => {
    const done: number[] = [];
    const onProgress = (phase: string, share: number) => phase === "calibrate" && share > 0 && done.push(share);
    await measureShard({ ...taskOf(), shard: { index: 2, count: 2 }, onProgress });
    // The second and the third sixteen samples, cut where their shapes change.
    expect(done.length).toBe(4);
    expect(done.at(-1)).toBe(1);
  });

  it("spare the run over the samples", async () => {
    const shards = await shardsOf(taskOf(), 2);
    const [plain, merged] = [refusing(engine), refusing(engine)];
    await quantizeModel({ ...taskOf(), engine: plain });
    await quantizeModel({ ...taskOf(), engine: merged, shards });
    expect(plain.opened - merged.opened).toBe(1);
  });

  it("hold for every recipe that looks at the same", async () => {
    const shards = await shardsOf(taskOf(ranged("mse")), 2);
    const weight = { bits: 4 as const, granularity: "tensor" };
    const recipe = { formats: [{ weight, activation: { range: "kl" } }], steps: ["bc"] };
    expect(isSame(await bytesOf({ ...taskOf(recipe), shards }), await bytesOf(taskOf(recipe)))).toBe(true);
  });
});

describe("measureShard", () => {
  it("says what the statistics are of", async () => {
    const { statistics } = await measureShard({ ...taskOf({ samples: 20, seed: 7 }), shard: { index: 1, count: 1 } });
    expect(statistics.header).toMatchObject({
      ...{ version, opset: 17, prepared: null, seed: 7, samples: 20, available: 39, batchSize: 16 },
      ...{ shard: { index: 1, count: 1 }, data: { samples: 20 } },
    });
    expect([...statistics.statistics.keys()]).toContain("histogram float x");
  });

  it("refuses a shard that there is not before any work", async () => {
    const none = refusing(engine);
    const work = measureShard({ ...taskOf(), engine: none, shard: { index: 3, count: 2 } });
    await expect(work).rejects.toMatchObject({ code: "usage/argument", place: { field: "--shard" } });
    expect(none.opened).toBe(0);
  });

  it("refuses a recipe that looks at nothing", async () => {
    const task = taskOf({ formats: [{ activation: "float" }] });
    await expect(measureShard({ ...task, shard: { index: 1, count: 1 } })).rejects.toMatchObject({
      code: "quantize/nothing-to-do",
      message: expect.stringContaining("float"),
    });
  });
});

describe("shards of another run", () => {
  const shards = shardsOf(taskOf(), 2);
  const refused = (task: QuantizeTask, file: string, field: string) =>
    expect(quantizeModel(task)).rejects.toMatchObject({
      code: "statistics/mismatch",
      exitCode: 2,
      place: { file, field },
    });
  const refusedGiven = async (
    given: (shards: readonly ShardStatistics[]) => readonly ShardStatistics[],
    file: string,
  ) => refused({ ...taskOf(), shards: given(await shards) }, file, "shard");

  it("are refused where one is missing, given twice or of another number", async () => {
    await refusedGiven(([first]) => [first], "1.statistics");
    await refusedGiven(([, second]) => [second], "2.statistics");
    await refusedGiven(([first, second]) => [first, second, { ...first, name: "copy" }], "copy");
    const [alone] = await shardsOf(taskOf(), 1);
    await refusedGiven(([first]) => [first, { ...alone, name: "alone" }], "alone");
    await expect(quantizeModel({ ...taskOf(), shards: [] })).rejects.toMatchObject({ code: "usage/argument" });
  });

  it.each<readonly [field: string, about: string, recipe: RecipeInput]>([
    ["statistics", "another range", ranged("minmax")],
    ["statistics", "a moving average", ranged("moving-average")],
    ["statistics", "activations in float", { formats: [{ activation: "float" }] }],
    ["statistics", "a layer that is skipped", { skip: ["op:MatMul"] }],
    ["prepared", "a step that changes the network", { steps: ["layernorm"] }],
    ["opset", "another operator set", { formats: [{ weight: { bits: 4 } }], storage: "onnx" }],
  ])("are refused, with the field %s: %s", async (field, _about, recipe) => {
    await refused({ ...taskOf(recipe), shards: await shards }, "1.statistics", field);
  });

  it.each<readonly [about: string, recipe: RecipeInput]>([
    ["steps are chosen automatically", { auto: true }],
    ["a step that changes the network is tried", { steps: ["ocs"] }],
  ])("are refused before any work where %s", async (_about, recipe) => {
    const none = refusing(engine);
    const task = { ...taskOf(recipe), engine: none };
    const refusal = { code: "usage/argument", exitCode: 2, place: { field: "steps" } };
    await expect(quantizeModel({ ...task, shards: await shards })).rejects.toMatchObject(refusal);
    await expect(measureShard({ ...task, shard: { index: 1, count: 1 } })).rejects.toMatchObject(refusal);
    expect(none.opened).toBe(0);
  });

  it("are refused before any work for another model, seed or samples, with the shard that saw them", async () => {
    const none = refusing(engine);
    const refusedAtOnce = async (change: Partial<QuantizeTask>, file: string, field: string) =>
      refused({ ...taskOf(), engine: none, shards: await shards, ...change }, file, field);
    const model = makeWideNet();
    const initializers = new Map([...model.graph.initializers, ["w2", someFloats([5, 3], 5)]]);
    const other = { ...model, graph: { ...model.graph, initializers } };
    await refusedAtOnce({ model: other }, "1.statistics", "model");
    await refusedAtOnce({ recipe: taskOf({ seed: 1 }).recipe }, "1.statistics", "seed");
    await refusedAtOnce({ recipe: taskOf({ samples: 30 }).recipe }, "1.statistics", "samples");
    const others = someSamples(mixed).map((sample, i) => (i === 30 ? { x: someFloats([1, 2, 33, 40], 1) } : sample));
    await refusedAtOnce({ samples: samplesOf(wide, others) }, "2.statistics", "data");
    const fewer = samplesOf(wide, someSamples(mixed.slice(1)));
    await refusedAtOnce({ ...taskOf({ samples: 38 }), engine: none, samples: fewer }, "1.statistics", "samples");
    const [first, second] = await shards;
    const changed = { ...second, header: { ...second.header, version: "0.0.1" } };
    await refusedAtOnce({ shards: [first, changed] }, "2.statistics", "version");
    expect(none.opened).toBe(0);
  });

  it("are refused where they were chosen from more samples, in words", async () => {
    const [first, second] = await shards;
    const changed = { ...second, header: { ...second.header, available: 500 } };
    await expect(quantizeModel({ ...taskOf(), shards: [first, changed] })).rejects.toMatchObject({
      message: "held 500 samples to choose from, in this run 39",
      place: { file: "2.statistics", field: "data" },
    });
  });

  it("are refused for another batch size", async () => {
    const [first, second] = await shards;
    const task = taskOf();
    const indices = Array.from({ length: task.samples.length }, (_, i) => i);
    const data = await describeData({ ...task, seed: 0, indices }, 5, second.header.shard);
    const changed = { ...second, header: { ...second.header, batchSize: 5, data } };
    await refused({ ...task, shards: [first, changed] }, "2.statistics", "batchSize");
  });

  it("are refused where the bytes of a statistic are not its own", async () => {
    const [first, second] = await shards;
    const statistics = new Map([...first.statistics].map(([key, bytes]) => [key, bytes.subarray(1)]));
    await expect(quantizeModel({ ...taskOf(), shards: [{ ...first, statistics }, second] })).rejects.toMatchObject({
      code: "statistics/malformed",
      place: { file: "1.statistics", field: "range float x" },
    });
  });
});
