import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats, type TestModel } from "../test/models.js";
import { makeChain, makeResidualNet, makeTransformer, NetworkWriter } from "../test/networks.js";
import { quantizeTestModel } from "../test/quantizing.js";
import { fromList, prepareRefinement } from "../test/refining.js";
import { planCalibration } from "./calibration.js";
import { Checkpoint } from "./checkpoint/checkpoint.js";
import { compareOutputs, type OutputComparison } from "./compare/outputs.js";
import { feedsSource } from "./data/array-source.js";
import { samplesFrom } from "./data/sample-source.js";
import type { Samples } from "./data/samples.js";
import { inBatches } from "./engine/batch.js";
import { type Feeds, withSession } from "./engine/engine.js";
import { makeNode } from "./graph/node.js";
import { createRuntimeEngine } from "./node/runtime-engine.js";
import { encodeModel, joinChunks } from "./onnx/model.js";
import { planQuantization } from "./planning.js";
import type { RoundingTarget } from "./quantize/format.js";
import { parseRecipe, type RecipeInput } from "./recipe/recipe.js";
import { refine, walkBatchSize } from "./refinement.js";
import { chooseRecipe, isBetter, type RecipeChoice, type Trial } from "./search.js";
import { int64Tensor } from "./tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

function samplesLike({ feeds }: TestModel, count = 20): readonly Feeds[] {
  return Array.from(
    { length: count },
    (_, i): Feeds => new Map([...feeds].map(([name, { shape }]) => [name, someFloats(shape, 200 + i)])),
  );
}

function recipeFor(target: RoundingTarget | "auto", activation: "float" | { bits: 8 } = { bits: 8 }): RecipeInput {
  return { formats: [{ weight: { bits: 3, rounding: { use: "gptq", target } }, activation }] };
}

async function choose(
  given: TestModel,
  recipeInput: RecipeInput,
  samples: Samples,
  onProgress: (done: number) => void = () => {},
): Promise<RecipeChoice> {
  const recipe = parseRecipe(recipeInput);
  const plan = await planQuantization({ model: given.model, recipe, engine });
  const calibration = await planCalibration({ model: given.model, recipe, samples, engine }, plan);
  const checkpoint = await Checkpoint.open(undefined, () => Promise.reject(new Error("nothing is kept")));
  return chooseRecipe({ engine, plan, calibration, recipe, samples, checkpoint, onProgress });
}

/** What a recipe leads to: quantized with every other sample, compared on the rest. */
async function tryRecipe(given: TestModel, recipe: RecipeInput, samples: readonly Feeds[]): Promise<OutputComparison> {
  const fitted = samples.filter((_, i) => i % 2 === 0);
  const held = samples.filter((_, i) => i % 2 === 1).map((feeds, i) => ({ id: `held ${i}`, feeds }));
  const prepared = await prepareRefinement(engine, given, recipe, fitted);
  const { batchSize } = prepared.calibration;
  const size = walkBatchSize(fitted.length, batchSize);
  const batches = inBatches(prepared.samples.read(prepared.calibration.indices), size);
  const { model } = await refine({ ...prepared.task, batches, batchCount: Math.ceil(fitted.length / size) });
  return withSession(engine, prepared.task.float, { mode: "exact" }, (reference) =>
    withSession(engine, model, { mode: "exact" }, (rounded) => compareOutputs(reference, rounded, fromList(held))),
  );
}

function samplesOf(given: TestModel, count?: number): Samples {
  return samplesFrom(feedsSource(samplesLike(given, count), "test"), given.model.graph.inputs);
}

function targetsOf({ recipe }: RecipeChoice): readonly unknown[] {
  return recipe.formats.map(
    ({ weight }) => weight !== "float" && weight.rounding.use === "gptq" && weight.rounding.target,
  );
}

/** A network with one number as its output. */
function makeRegressor(): TestModel {
  const net = new NetworkWriter();
  let value = "x";
  for (let i = 0; i < 3; i++) value = net.node("Tanh", [net.linear(value, `hidden${i}`, [6, 6])], `tanh${i}`);
  net.linear(value, "y", [6, 1]);
  return net.finish({ x: someFloats([1, 6], 92) }, ["y"]);
}

describe("chooseRecipe", () => {
  it.each([
    ["a classifier, by divergence", makeResidualNet, { bits: 8 }, "kl"],
    ["a classifier with activations in float, by divergence", makeResidualNet, "float", "kl"],
    ["sequences, by signal to error", makeTransformer, { bits: 8 }, "sqnrDb"],
    ["pictures, by signal to error", makeChain, "float", "sqnrDb"],
    ["a single number, by signal to error", makeRegressor, { bits: 8 }, "sqnrDb"],
  ] as const)(
    "takes the target with the smaller error on samples held back: %s",
    async (_about, make, activation, by) => {
      const given = make();
      const told: number[] = [];
      const choice = await choose(given, recipeFor("auto", activation), samplesOf(given), (done) => told.push(done));
      const { trials, taken } = choice;
      const candidates = [activation === "float" ? "same" : "unquantized", "float"] as const;
      expect(trials.map((trial) => trial.name)).toEqual(candidates.map((target) => `target ${target}`));
      for (const [i, target] of candidates.entries()) {
        const { kl, sqnrDb } = await tryRecipe(given, recipeFor(target, activation), samplesLike(given));
        expect([trials[i].kl, trials[i].sqnrDb]).toEqual([kl, sqnrDb]);
      }
      const best = candidates[isBetter(trials[0], trials[1], 0, by === "kl" ? 2 : 3) ? 1 : 0];
      expect([taken, ...targetsOf(choice)]).toEqual([`target ${best}`, best]);
      expect(told).toEqual([...told].sort((a, b) => a - b));
      expect([told[0], told.at(-1)]).toEqual([0, 1]);
    },
  );

  it.each([
    ["the target is given", recipeFor("float"), 20, "float"],
    ["weights are rounded to nearest", { formats: [{ weight: { bits: 3 } }] }, 20, false],
    ["too few samples are there to hold some back", recipeFor("auto"), 7, "unquantized"],
  ] as const)("tries nothing where %s", async (_about, recipe, count, target) => {
    const given = makeChain();
    const choice = await choose(given, recipe as RecipeInput, samplesOf(given, count));
    expect([choice.trials, choice.taken, ...targetsOf(choice)]).toEqual([[], undefined, target]);
  });

  it("tries nothing where an open target changes nothing", async () => {
    const given = makeTestModel({
      feeds: { ids: int64Tensor([1, 2], [3, 5]) },
      nodes: [makeNode("Gather", ["words", "ids"], ["y"])],
      outputs: ["y"],
      initializers: { words: someFloats([64, 64]) },
    });
    const feeds = Array.from({ length: 20 }, (_, i): Feeds => new Map([["ids", int64Tensor([1, 2], [i, 3])]]));
    const samples = samplesFrom(feedsSource(feeds, "test"), given.model.graph.inputs);
    expect((await choose(given, recipeFor("auto"), samples)).trials).toEqual([]);
  });

  it("holds back at most so many samples, and fits on at most so many", async () => {
    const given = makeRegressor();
    const samples = samplesOf(given, 160);
    const read: number[] = [];
    const counting = {
      ...samples,
      read(indices: readonly number[]) {
        read.push(indices.length);
        return samples.read(indices);
      },
    };
    await choose(given, { ...recipeFor("auto"), samples: 160 }, counting);
    // Two to choose the size of batches by; then for each target ranges, the walk, and what was held back.
    expect(read).toEqual([2, 64, 64, 64, 64, 64, 64]);
  });
});

describe("isBetter", () => {
  const trial = (...errors: readonly number[]): Trial => {
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
    const samples = errors.map((error) => ({ kl: error, error }));
    return { name: "", kl: mean, sqnrDb: -10 * Math.log10(mean), samples };
  };
  const first = trial(1, 2, 3, 2);

  it.each([
    ["a smaller error on every sample", trial(0.9, 1.9, 2.8, 1.9), true],
    ["the same", first, false],
    ["a gain that is too small", trial(0.999, 1.998, 2.999, 1.998), false],
    ["a gain on one sample that others pay for", trial(1.1, 2.1, 2.0, 2.1), false],
    ["a larger error", trial(2, 3, 4, 3), false],
    ["no number", trial(Number.NaN, 1, 1, 1), false],
    ["an infinite error", trial(Number.POSITIVE_INFINITY, 0, 0, 0), false],
  ])("is told of %s: %s", (_about, other, expected) => {
    expect(isBetter(first, other, 0.01, 2)).toBe(expected);
    expect(isBetter(first, other, 0.01, 3)).toBe(expected);
  });

  it("holds for anything beside what gave no numbers", () => {
    expect(isBetter(trial(Number.NaN, 0, 0, 0), first, 0.01, 2)).toBe(true);
  });

  it("does not go by the divergence of single values", () => {
    const regressor = (error: number): Trial => ({
      name: "",
      kl: 0,
      sqnrDb: 0,
      samples: [
        { kl: 0, error },
        { kl: 0, error },
      ],
    });
    expect(isBetter(regressor(2), regressor(1), 0, 2)).toBe(true);
  });
});

describe("a run with an open target", () => {
  it("gives what the chosen target gives, and tells of the trials", async () => {
    const given = makeTransformer();
    const samples = samplesLike(given);
    const open = await quantizeTestModel(engine, given, recipeFor("auto"), samples);
    const { recipe, trials, taken } = await choose(given, recipeFor("auto"), samplesOf(given));
    expect(open.report.trials).toEqual(
      trials.map(({ name, kl, sqnrDb }) => ({ name, kl, sqnrDb, taken: name === taken })),
    );
    expect(open.report.recipe).toEqual(recipe);
    const chosen = await quantizeTestModel(engine, given, recipe, samples);
    expect(chosen.report.trials).toEqual([]);
    const [a, b] = [open, chosen].map(({ model }) => joinChunks(encodeModel({ ...model, metadata: new Map() }).chunks));
    expect(a).toEqual(b);
    expect(open.report.steps).toEqual(chosen.report.steps);
  });
});
