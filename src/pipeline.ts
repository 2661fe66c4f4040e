import { type Calibration, observeSamples, observeShards, planCalibration } from "./calibration.js";
import { Checkpoint, type CheckpointOptions } from "./checkpoint/checkpoint.js";
import type { RunDescription } from "./checkpoint/run-description.js";
import { chooseTarget } from "./choose-target.js";
import { cleanModel } from "./clean/index.js";
import { raiseOpset } from "./clean/opset/raise-opset.js";
import { compareOutputs } from "./compare/outputs.js";
import { chooseSamples } from "./data/choose.js";
import { fingerprintOf } from "./data/fingerprint.js";
import { type Prefetched, prefetch } from "./data/prefetch.js";
import type { Samples } from "./data/samples.js";
import { inBatches } from "./engine/batch.js";
import { type Engine, withSession } from "./engine/engine.js";
import { inferValueTypes } from "./engine/infer-types.js";
import { RecoupError } from "./errors.js";
import { type Model, opsetOf, withGraph } from "./graph/model.js";
import { refuseNotANumber } from "./graph/not-a-number.js";
import { findLayers } from "./operators/index.js";
import { isQuantized } from "./operators/quantized.js";
import { preparationsOf, prepareNetwork } from "./preparation.js";
import { prepareForIntegers } from "./prepare/for-integers.js";
import { chooseLayers, type LayerChoice, type PlannedNetwork } from "./quantize/choose-layers.js";
import { estimateRanges } from "./quantize/estimate-ranges.js";
import { lowerToIntegers } from "./quantize/lower.js";
import { describeLayers, quantize } from "./quantize/quantize.js";
import { neededOpset, type Recipe } from "./recipe/recipe.js";
import { unmatchedPatterns, wishesOf } from "./recipe/wish.js";
import { refine, walkBatchSize } from "./refinement.js";
import { type RunReport, recordActivations, recordLayers, recordSkipped } from "./report/run-report.js";
import { describeRun } from "./shards/header.js";
import type { ShardStatistics } from "./shards/statistics-file.js";
import type { OpenStep } from "./step/step.js";
import { version } from "./version.js";
import type { StepResult } from "./walk/solve-sites.js";

/** What a run is told; the same task gives the same bytes. */
export interface QuantizeTask {
  readonly model: Model;
  readonly recipe: Recipe;
  readonly samples: Samples;
  readonly engine: Engine;
  /** What all shards of the samples have shown, as `measureShard` found it: the samples are not run for ranges again. */
  readonly shards?: readonly ShardStatistics[];
  /** Where finished blocks are kept; nowhere where it is not given. */
  readonly checkpoint?: CheckpointOptions;
  readonly onProgress?: OnProgress;
  /** Makes the run a rehearsal; the model is of use for its size only. */
  readonly rehearsal?: Rehearsal;
}

/** A run over the first batches only, so that what it takes tells what the whole run would take. */
export interface Rehearsal {
  /** @returns how many of the samples of a run to run */
  samplesToRun(count: number, batchSize: number): number;
  /** As `RefineOptions` has it. */
  replaceSteps(steps: readonly OpenStep[]): readonly OpenStep[];
}

export type Phase = "clean" | "calibrate" | "quantize" | "try" | "refine" | "check";

/** @param done share of the phase that is done, from 0 to 1 */
export type OnProgress = (phase: Phase, done: number) => void;

export interface QuantizeOutcome {
  readonly model: Model;
  readonly report: RunReport;
}

/** A float network with everything that is decided on it before its ranges are looked for. */
export interface Plan extends PlannedNetwork {
  /** What the steps did that change the float network. */
  readonly prepared: readonly StepResult[];
  readonly clean: RunReport["clean"];
  /** What a user should know of the recipe. */
  readonly warnings: readonly string[];
}

/** Signal to error in decibels. Codes that fall on the other side of a tie leave 20 and more on all models tried. */
const leastFaithfulDb = 10;

/**
 * Makes a model small: cleans it, finds ranges, rounds, compensates, checks that the result runs.
 *
 * @throws RecoupError `quantize/nothing-to-do` where no layer can be quantized, `data/empty`, `model/not-finite`, as
 * `mergeShards` and `Checkpoint`, and what the engine throws
 */
export async function quantizeModel(task: QuantizeTask): Promise<QuantizeOutcome> {
  const { recipe, samples } = task;
  // Pictures are decoded while the runtime loads what the model consists of.
  const read = prefetch(samples.read(chooseSamples(samples.length, recipe.samples, recipe.seed)));
  try {
    return await quantizeSamples(task, read);
  } finally {
    read.close();
  }
}

async function quantizeSamples(task: QuantizeTask, read: Prefetched): Promise<QuantizeOutcome> {
  const { recipe, engine, samples, rehearsal } = task;
  const progress = task.onProgress ?? (() => {});
  const planned = await planQuantization(task);
  const first = await planCalibration(task, planned);
  const run = rehearsal
    ? first.indices.slice(0, rehearsal.samplesToRun(first.indices.length, first.batchSize))
    : first.indices;
  const plan = await preparePlan(task, planned, run, first.batchSize);
  const calibration = plan === planned ? first : await planCalibration(task, plan);
  const { sites, indices, batchSize } = calibration;
  const fingerprint = await samples.fingerprint(indices);
  const checkpoint = await Checkpoint.open(task.checkpoint, () => describeTask(task, calibration, fingerprint));
  const ranges = await checkpoint.ranges(async () => {
    const onCalibrated = (done: number) => progress("calibrate", done);
    const observation = task.shards
      ? await observeShards(task.shards, calibration, onCalibrated)
      : await observeSamples(calibration, run, onCalibrated, firstOf(read, run.length));
    progress("quantize", 0);
    return estimateRanges(plan.float.graph, sites, observation.result());
  });
  read.close();

  progress("quantize", 0);
  const quantized = quantize(plan.float, plan.choice, sites, ranges, recipe.storage);
  progress("quantize", 1);

  const open = { ...plan, engine, recipe, quantized };
  const onTried = (done: number) => progress("try", done);
  // In a rehearsal there is nothing to choose by.
  const tried = rehearsal ? [] : indices;
  const { target, trials } = await chooseTarget(open, samples, tried, batchSize, checkpoint, onTried);
  const size = walkBatchSize(indices.length, batchSize);
  const batches = inBatches(samples.read(run), size);
  const batchCount = Math.ceil(indices.length / size);
  const refined = await refine(
    { ...open, target, batches, batchCount },
    {
      ...(await checkpoint.walk()),
      onProgress: (done) => progress("refine", done),
      rehearsal: rehearsal && { ...rehearsal, batches: Math.ceil(run.length / size) },
    },
  );
  const { graph } = refined.model;
  const lowered = lowerToIntegers(graph, plan.float.graph, plan.types);
  const model = withMetadata(withGraph(refined.model, lowered), recipe, fingerprint);
  progress("check", 0);
  const check = await checkRuns(engine, model, samples, indices[0]);
  progress("check", 1);
  return {
    model,
    report: {
      schemaVersion: 1,
      version,
      recipe,
      data: { description: samples.description, samples: indices.length, available: samples.length, fingerprint },
      clean: plan.clean,
      blocks: refined.blocks.length,
      layers: recordLayers(
        describeLayers(plan.float.graph, graph, plan.choice, quantized.groups),
        refined.weightSqnrDb,
      ),
      skipped: recordSkipped(plan.choice),
      activations: recordActivations(refined.groups),
      targetTrials: trials,
      steps: [...plan.prepared, ...refined.steps],
      warnings: [...plan.warnings, ...samples.warnings, ...checkpoint.warnings, ...check],
    },
  };
}

async function* firstOf<Item>(items: AsyncIterable<Item>, count: number): AsyncIterable<Item> {
  let left = count;
  for await (const item of items) {
    yield item;
    left--;
    if (left === 0) return;
  }
}

/**
 * As `planModel`, for a model that shall be quantized.
 *
 * @throws RecoupError `quantize/nothing-to-do`, `model/not-finite`, and what the engine throws
 */
export async function planQuantization(task: Omit<QuantizeTask, "samples">): Promise<Plan> {
  const { model, recipe, engine, onProgress } = task;
  refuseNotANumber(model.graph);
  onProgress?.("clean", 0);
  const plan = await planModel(model, recipe, engine);
  if (plan.choice.layers.length === 0) throw nothingToDo(plan.choice, model);
  onProgress?.("clean", 1);
  return plan;
}

/** Cleans a model and decides on its layers, in the form that the runtime's kernels want. */
export async function planModel(model: Model, recipe: Recipe, engine: Engine): Promise<Plan> {
  const cleaned = await cleanModel(model, { engine });
  const raised = await raiseCleaned(cleaned.model, neededOpset(recipe), engine);
  const wantsIntegers = recipe.formats.some((format) => format.activation !== "float");
  const before = await inferValueTypes(engine, raised);
  const float = wantsIntegers ? prepareForIntegers(raised, before) : raised;
  const types = float === raised ? before : await inferValueTypes(engine, float);
  const choice = chooseLayers(float.graph, types, findLayers(float.graph, types), wishesOf(recipe));
  return {
    float,
    types,
    choice,
    prepared: [],
    clean: cleaned.steps,
    warnings: [...warnOfQuantized(model), ...warnOfPatterns(recipe, model, float)],
  };
}

/**
 * Takes the float network of a plan through the steps of its recipe that change it.
 *
 * @param indices of the samples that such steps may look at
 * @returns the same plan where there are none
 * @throws RecoupError as `prepareNetwork`
 */
export async function preparePlan(
  { recipe, engine, samples }: Pick<QuantizeTask, "recipe" | "engine" | "samples">,
  plan: Plan,
  indices: readonly number[],
  batchSize: number,
): Promise<Plan> {
  if (preparationsOf(recipe).length === 0) return plan;
  const { float, types, choice } = plan;
  const batches = () => inBatches(samples.read(indices), batchSize);
  const batchCount = Math.ceil(indices.length / batchSize);
  const { steps, ...prepared } = await prepareNetwork({ engine, recipe, float, types, choice, batches, batchCount });
  return { ...plan, ...prepared, prepared: steps };
}

/** Layers are chosen by the names that they have in the cleaned network. */
function warnOfPatterns(recipe: Recipe, given: Model, cleaned: Model): readonly string[] {
  const unknown = new Set(unmatchedPatterns(recipe, given.graph));
  return unmatchedPatterns(recipe, cleaned.graph).map((pattern) => {
    const nothing = unknown.has(pattern) ? "no node" : "only nodes that cleaning takes away or renames";
    return `the pattern ${pattern} matches ${nothing}`;
  });
}

/** Known ranks spare nodes where the meaning of an operator changed with its version. */
async function raiseCleaned(model: Model, opset: number, engine: Engine): Promise<Model> {
  return opsetOf(model) >= opset ? model : raiseOpset(model, opset, await inferValueTypes(engine, model));
}

/** What decides the bytes of the result. */
async function describeTask(
  { recipe, engine, shards }: QuantizeTask,
  calibration: Calibration,
  data: string,
): Promise<RunDescription> {
  const { version, model, batchSize } = await describeRun(calibration);
  const statistics = shards ? await fingerprintOf(shards.flatMap((shard) => [...shard.statistics.values()])) : null;
  return { version, model, recipe, data, statistics, batchSize, engine: engine.name };
}

/** What was done goes into the model itself, so that each number can be reproduced from it. */
function withMetadata(model: Model, recipe: Recipe, dataFingerprint: string): Model {
  const metadata = new Map(model.metadata);
  metadata.set("recoup.version", version);
  metadata.set("recoup.recipe", JSON.stringify(recipe));
  metadata.set("recoup.data", dataFingerprint);
  return { ...model, metadata };
}

/**
 * A model that does not load or run at the runtime's default options is not done. There the runtime joins operators; what
 * it then computes is held against what the file says, operator by operator.
 *
 * @returns warnings
 */
async function checkRuns(engine: Engine, model: Model, samples: Samples, index: number): Promise<readonly string[]> {
  const { sqnrDb } = await withSession(engine, model, { mode: "plain" }, (written) =>
    withSession(engine, model, { mode: "shipped" }, (joined) => compareOutputs(written, joined, samples.read([index]))),
  );
  if (sqnrDb >= leastFaithfulDb) return [];
  const ratio = `a signal to error of ${sqnrDb.toFixed(1)} dB on the first sample`;
  return [`at its default options ${engine.name} computes something else than the file says: ${ratio}`];
}

function warnOfQuantized(model: Model): readonly string[] {
  return isQuantized(model.graph) ? ["the model is quantized already: give the original where there is one"] : [];
}

function nothingToDo(choice: LayerChoice, model: Model): RecoupError {
  const given = [...new Set(choice.skipped.map(({ reason }) => reason))].slice(0, 3).join("; ");
  const why = isQuantized(model.graph) ? "it is quantized already" : given || "it has no node with a constant weight";
  return new RecoupError("quantize/nothing-to-do", `has no layer to quantize: ${why}`);
}
