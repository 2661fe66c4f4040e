import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats, type TestModel } from "../test/models.js";
import { makeChain, makeResidualNet, makeTransformer, NetworkWriter } from "../test/networks.js";
import { quantizeTestModel } from "../test/quantizing.js";
import { type PreparedRefinement, prepareRefinement } from "../test/refining.js";
import { Checkpoint } from "./checkpoint/checkpoint.js";
import { chooseTarget, type TargetChoice } from "./choose-target.js";
import { compareOutputs, type OutputComparison } from "./compare/outputs.js";
import { inBatches } from "./engine/batch.js";
import { type Feeds, withSession } from "./engine/engine.js";
import { makeNode } from "./graph/node.js";
import { createRuntimeEngine } from "./node/runtime-engine.js";
import { encodeModel, joinChunks } from "./onnx/model.js";
import type { RoundingTarget } from "./quantize/format.js";
import type { RecipeInput } from "./recipe/recipe.js";
import { refine, walkBatchSize } from "./refinement.js";
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
  { task, samples, calibration: { indices, batchSize } }: PreparedRefinement,
  onProgress: (done: number) => void = () => {},
): Promise<TargetChoice> {
  const checkpoint = await Checkpoint.open(undefined, () => Promise.reject(new Error("nothing is kept")));
  return chooseTarget(task, samples, indices, batchSize, checkpoint, onProgress);
}

/** What a target leads to: refined on three of four samples, compared on every fourth. */
async function tryTarget(prepared: PreparedRefinement, target: RoundingTarget): Promise<OutputComparison> {
  const { task, samples, calibration } = prepared;
  const { indices, batchSize } = calibration;
  const fitted = indices.filter((_, i) => i % 4 !== 3);
  const held = indices.filter((_, i) => i % 4 === 3);
  const size = walkBatchSize(fitted.length, batchSize);
  const batches = inBatches(samples.read(fitted), size);
  const { model } = await refine({ ...task, target, batches, batchCount: Math.ceil(fitted.length / size) });
  return withSession(engine, task.float, { mode: "exact" }, (reference) =>
    withSession(engine, model, { mode: "exact" }, (rounded) => compareOutputs(reference, rounded, samples.read(held))),
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

describe("chooseTarget", () => {
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
      const prepared = await prepareRefinement(engine, given, recipeFor("auto", activation), samplesLike(given));
      const told: number[] = [];
      const { target, trials } = await choose(prepared, (done) => told.push(done));
      const candidates = [activation === "float" ? "same" : "unquantized", "float"] as const;
      expect(trials.map((trial) => trial.target)).toEqual(candidates);
      for (const trial of trials) {
        const { kl, sqnrDb } = await tryTarget(prepared, trial.target);
        expect([trial.kl, trial.sqnrDb]).toEqual([kl, sqnrDb]);
      }
      const errors = trials.map((trial) => (by === "kl" ? trial.kl : -trial.sqnrDb));
      expect(errors[0]).not.toBe(errors[1]);
      expect(target).toBe(candidates[errors.indexOf(Math.min(...errors))]);
      expect(told).toEqual([...told].sort((a, b) => a - b));
      expect([told[0], told.at(-1)]).toEqual([0, 1]);
    },
  );

  it.each([
    ["the target is given", recipeFor("float"), 20],
    ["weights are rounded to nearest", { formats: [{ weight: { bits: 3 } }] }, 20],
    ["too few samples are there to hold some back", recipeFor("auto"), 15],
  ] as const)("tries nothing where %s", async (_about, recipe, count) => {
    const given = makeChain();
    const prepared = await prepareRefinement(engine, given, recipe as RecipeInput, samplesLike(given, count));
    expect(await choose(prepared)).toEqual({ target: "unquantized", trials: [] });
  });

  it("tries nothing where an open target changes nothing", async () => {
    const given = makeTestModel({
      feeds: { ids: int64Tensor([1, 2], [3, 5]) },
      nodes: [makeNode("Gather", ["words", "ids"], ["y"])],
      outputs: ["y"],
      initializers: { words: someFloats([64, 64]) },
    });
    const samples = Array.from({ length: 20 }, (_, i): Feeds => new Map([["ids", int64Tensor([1, 2], [i, 3])]]));
    const prepared = await prepareRefinement(engine, given, recipeFor("auto"), samples);
    expect(prepared.task.quantized.unrounded).toHaveLength(1);
    expect(await choose(prepared)).toEqual({ target: "same", trials: [] });
  });

  it("holds back at most so many samples, and fits on at most so many", async () => {
    const given = makeRegressor();
    const prepared = await prepareRefinement(engine, given, recipeFor("auto"), samplesLike(given, 120));
    const read: number[] = [];
    const counting = {
      ...prepared.samples,
      read(indices: readonly number[]) {
        read.push(indices.length);
        return prepared.samples.read(indices);
      },
    };
    await choose({ ...prepared, samples: counting });
    expect(read).toEqual([48, 24, 48, 24]);
  });
});

describe("a run with an open target", () => {
  it("gives what the chosen target gives, and tells of the trials", async () => {
    const given = makeTransformer();
    const samples = samplesLike(given);
    const open = await quantizeTestModel(engine, given, recipeFor("auto"), samples);
    const prepared = await prepareRefinement(engine, given, recipeFor("auto"), samples);
    const { target, trials } = await choose(prepared);
    expect(open.report.targetTrials).toEqual(trials);
    const chosen = await quantizeTestModel(engine, given, recipeFor(target), samples);
    expect(chosen.report.targetTrials).toEqual([]);
    const [a, b] = [open, chosen].map(({ model }) => joinChunks(encodeModel({ ...model, metadata: new Map() }).chunks));
    expect(a).toEqual(b);
    expect(open.report.steps).toEqual(chosen.report.steps);
  });
});
