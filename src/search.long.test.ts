import { afterAll, describe, expect, it } from "vitest";
import { heavyTailedFeeds, makeTestModel, someFloats, type TestModel } from "../test/models.js";
import { makeChain, makeResidualNet, makeTransformer, NetworkWriter } from "../test/networks.js";
import { quantizeTestModel } from "../test/quantizing.js";
import { fromList, prepareRefinement } from "../test/refining.js";
import { planCalibration } from "./calibration.js";
import { Checkpoint } from "./checkpoint/checkpoint.js";
import { type Bar, isBetter } from "./compare/gain.js";
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
import { chooseRecipe, planTrials, type RecipeChoice, type Trial, trialFolds } from "./search.js";
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

/** What a recipe leads to: quantized with every other sample, beginning with the first or the second, compared on the rest. */
async function tryRecipe(
  given: TestModel,
  recipe: RecipeInput,
  samples: readonly Feeds[],
  fold: number,
): Promise<OutputComparison> {
  const fitted = samples.filter((_, i) => i % 2 === fold);
  const held = samples.filter((_, i) => i % 2 === 1 - fold).map((feeds, i) => ({ id: `held ${i}`, feeds }));
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
    ({ weight }) => weight !== "float" && weight.rounding?.use === "gptq" && weight.rounding.target,
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
    ["a classifier", makeResidualNet, { bits: 8 }, ["float", "unquantized"]],
    ["a classifier with activations in float", makeResidualNet, "float", ["float", "same"]],
    ["sequences", makeTransformer, { bits: 8 }, ["unquantized", "float"]],
    ["pictures", makeChain, "float", ["float", "same"]],
    ["a single number", makeRegressor, { bits: 8 }, ["float", "unquantized"]],
  ] as const)(
    "holds what was fitted on one half of the samples against the float network on the other: %s",
    async (_about, make, activation, targets) => {
      const given = make();
      const told: number[] = [];
      const choice = await choose(given, recipeFor("auto", activation), samplesOf(given), (done) => told.push(done));
      const { trials, taken } = choice;
      expect(trials.map((trial) => trial.name)).toEqual(targets.map((target) => `target ${target}`));
      for (const [i, target] of targets.entries()) {
        const folds = await Promise.all(
          [0, 1].map((fold) => tryRecipe(given, recipeFor(target, activation), samplesLike(given), fold)),
        );
        // Ten samples on each half; the second is not looked at where the first has shown no gain.
        const seen = folds.slice(0, trials[i].samples.length / 10);
        expect(trials[i].kl).toBe(seen.reduce((sum, { kl }) => sum + kl, 0) / seen.length);
        const shares = seen.map(({ sqnrDb }) => 10 ** (-sqnrDb / 10));
        const share = shares.reduce((sum, one) => sum + one, 0) / seen.length;
        expect(trials[i].sqnrDb).toBeCloseTo(-10 * Math.log10(share), 9);
      }
      expect(targetsOf(choice)).toEqual([taken?.replace("target ", "")]);
      expect(told).toEqual([...told].sort((a, b) => a - b));
      expect([told[0], told.at(-1)]).toEqual([0, 1]);
    },
  );

  it.each([
    ["a classifier, by divergence", makeResidualNet, 2],
    ["pictures, by signal to error", makeChain, 3],
  ] as const)("goes on with what is better on both halves: %s", async (_about, make, rank) => {
    const given = make();
    const { trials, taken } = await choose(given, recipeFor("auto"), samplesOf(given));
    const [first, second] = trials;
    const half = (trial: Trial) => ({ ...trial, samples: trial.samples.slice(0, 10) });
    const passes = isBetter(half(first), half(second), bar(0, rank, 1));
    expect(trials.map(({ samples }) => samples.length)).toEqual(passes ? [20, 20] : [10, 10]);
    expect(taken).toBe((passes && isBetter(first, second, bar(0, rank)) ? second : first).name);
    expect(second.gain?.beside).toBe(first.name);
    expect(first.gain).toBeUndefined();
  });

  it("keeps a step that costs something only where the error is smaller with it", async () => {
    const given = makeTransformer();
    const { recipe, trials, taken } = await choose(given, { ...recipeFor("float"), steps: ["qwt"] }, samplesOf(given));
    const [as, without, otherwise] = trials;
    expect([as.name, without.name]).toEqual(["as given", "without qwt"]);
    if (isBetter(as, without, bar(0, 3, 0))) {
      expect(otherwise.name).toBe("with qwt:rho=0");
      expect(taken).toBe((isBetter(without, otherwise, bar(0, 3, 0)) ? otherwise : without).name);
    } else {
      expect([taken, otherwise]).toEqual(["as given", undefined]);
    }
    const rho = { "as given": ["auto"], "with qwt:rho=0": [0] }[taken ?? ""] ?? [];
    expect(recipe.steps.map((step) => step.rho)).toEqual(rho);
  });

  it("holds a nonlinear compensation against the linear one at the outputs, where it is not linear itself", async () => {
    const given = makeTransformer();
    const samples = heavyTailedFeeds(given, 80);
    const source = samplesFrom(feedsSource(samples, "test"), given.model.graph.inputs);
    const chooseWith = (alpha: number | "auto") =>
      choose(given, { ...recipeFor("float"), steps: [{ use: "nbc", budget: 3, alpha, rho: 0.5 }] }, source);
    const { recipe, trials, taken } = await chooseWith("auto");
    const [as, simpler, without] = trials;
    expect(trials.map(({ name }) => name)).toEqual(["as given", "with nbc:rho=0.5:budget=3:alpha=0", "without nbc"]);
    expect(as.forms.nbc).toContain("logarithmic 1");
    expect([without.forms, simpler.forms]).toEqual([{}, { nbc: ["linear"] }]);
    // It costs less: it has to be surely worse to be put aside.
    const isSimpler = !isBetter(simpler, as, bar(0.01, 3, 2));
    expect(taken).toBe((isSimpler ? simpler : as).name);
    expect(recipe.steps.map(({ alpha }) => alpha)).toEqual([isSimpler ? 0 : "auto"]);
    // What is linear all over is not tried twice.
    const linear = await chooseWith(0);
    expect(linear.trials.map(({ name }) => name)).toEqual(["as given", "without nbc"]);
    expect(linear.trials[0].samples).toEqual(simpler.samples.slice(0, 40));
  });

  it.each([
    ["the target is given", recipeFor("float"), 20, "float"],
    ["weights are rounded to nearest", { formats: [{ weight: { bits: 3 } }] }, 20, false],
    ["too few samples are there to hold some back", recipeFor("auto"), 7, "float"],
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
    // Two to choose the size of batches by; then for each target and half ranges, the walk, and what was held back.
    expect([6, 12]).toContain(read.length - 1);
    expect(read).toEqual([2, ...read.slice(1).map(() => 64)]);
  });
});

function bar(leastGain: number, rank: number, certainty = 2): Bar {
  return { leastGain, certainty, rank };
}

describe("planTrials", () => {
  const cnn = { hasProducts: false, isQuantized: true, isRoundable: true };
  const indices = (count: number) => Array.from({ length: count }, (_, i) => i);
  const countsOf = (recipe: RecipeInput, samples: number) =>
    planTrials(parseRecipe(recipe), cnn, indices(samples)).counts;

  it("counts each candidate once where the first is best, and both ways round where all are close", () => {
    expect(countsOf(recipeFor("auto"), 64)).toEqual({ fewest: 2, most: 4, fitted: 32, held: 32 });
    expect(countsOf({ ...recipeFor("auto"), steps: ["qwt"] }, 300)).toEqual({
      // Two targets of GPTQ; without qwt, and with its other target.
      ...{ fewest: 4, most: 8 },
      ...{ fitted: 64, held: 64 },
    });
    // What nbc takes nothing but a run can tell: only where it is not linear all over, the linear form is tried beside it.
    expect(countsOf({ steps: ["nbc"] }, 300)).toMatchObject({ fewest: 3, most: 10 });
  });

  it.each([
    ["nothing is open", recipeFor("float"), 64],
    ["the samples are too few", recipeFor("auto"), 7],
  ] as const)("counts none where %s", (_about, recipe, samples) => {
    expect(countsOf(recipe, samples)).toEqual({ fewest: 0, most: 0, fitted: 0, held: 0 });
  });
});

describe("the warnings of planTrials", () => {
  const cnn = { hasProducts: false, isQuantized: true, isRoundable: true };
  const warningsOf = (recipe: RecipeInput, samples: number) =>
    planTrials(parseRecipe(recipe), cnn, [...Array(samples).keys()]).warnings;

  it.each<readonly [what: string, recipe: RecipeInput]>([
    ["everything is chosen", { auto: true }],
    ["a target is open", recipeFor("auto")],
    ["a step is tried", { steps: ["qwt"] }],
  ])("say how many samples trials need, where there are too few and %s", (_what, recipe) => {
    expect(warningsOf(recipe, 7)).toEqual([
      expect.stringMatching(/^trials need 8 samples, this run has 7: nothing is tri/),
    ]);
    expect(warningsOf(recipe, 8)).toEqual([]);
  });

  it("are none where nothing would be tried", () => {
    expect(warningsOf(recipeFor("float"), 1)).toEqual([]);
  });
});

describe("trialFolds", () => {
  it("holds each half back from the other", () => {
    expect(trialFolds([1, 2, 3, 5, 8, 13, 21, 34])).toEqual([
      { fitted: [1, 3, 8, 21], held: [2, 5, 13, 34] },
      { fitted: [2, 5, 13, 34], held: [1, 3, 8, 21] },
    ]);
  });

  it("is nothing where chance would choose", () => {
    expect(trialFolds([1, 2, 3, 4, 5, 6, 7])).toEqual([]);
  });
});

describe("a run with an open target", () => {
  it("gives what the chosen target gives, and tells of the trials", async () => {
    const given = makeTransformer();
    const samples = samplesLike(given);
    const open = await quantizeTestModel(engine, given, recipeFor("auto"), samples);
    const { recipe, trials, taken } = await choose(given, recipeFor("auto"), samplesOf(given));
    expect(open.report.trials).toEqual(
      trials.map(({ samples: held, forms: _, ...trial }) => ({
        ...trial,
        held: held.length,
        taken: trial.name === taken,
      })),
    );
    expect(open.report.recipe).toEqual(recipe);
    const chosen = await quantizeTestModel(engine, given, recipe, samples);
    expect(chosen.report.trials).toEqual([]);
    const [a, b] = [open, chosen].map(({ model }) => joinChunks(encodeModel({ ...model, metadata: new Map() }).chunks));
    expect(a).toEqual(b);
    expect(open.report.steps).toEqual(chosen.report.steps);
  });
});
