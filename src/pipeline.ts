import { findLayerBlocks } from "./blocks/layer-blocks.js";
import { observe } from "./calibrate/observe.js";
import { cleanModel } from "./clean/index.js";
import { raiseOpset } from "./clean/opset/raise-opset.js";
import { compareOutputs } from "./compare/outputs.js";
import { compensations } from "./compensate/index.js";
import { chooseSamples } from "./data/choose.js";
import type { Samples } from "./data/samples.js";
import { chooseBatchSize, inBatches, type NamedFeeds } from "./engine/batch.js";
import { type Engine, withSession } from "./engine/engine.js";
import { inferValueTypes } from "./engine/infer-types.js";
import { RecoupError } from "./errors.js";
import { type Model, opsetOf, withGraph } from "./graph/model.js";
import { refuseNotANumber } from "./graph/not-a-number.js";
import type { ValueTypes } from "./graph/value-types.js";
import { findLayers } from "./operators/index.js";
import { isQuantized } from "./operators/quantized.js";
import { prepareForIntegers } from "./prepare/index.js";
import { chooseLayers, type LayerChoice } from "./quantize/choose-layers.js";
import { estimateRanges, neededDetails } from "./quantize/estimate-ranges.js";
import { lowerToIntegers } from "./quantize/lower.js";
import { activationSites, type QuantizedModel, quantize } from "./quantize/quantize.js";
import { neededOpset, type Recipe } from "./recipe/recipe.js";
import { unmatchedPatterns, wishesOf } from "./recipe/wish.js";
import {
  type RunReport,
  recordActivations,
  recordLayers,
  recordSkipped,
  type StepRecord,
} from "./report/run-report.js";
import { version } from "./version.js";
import { walk } from "./walk/walk.js";

/** What a run is told; the same task gives the same bytes. */
export interface QuantizeTask {
  readonly model: Model;
  readonly recipe: Recipe;
  readonly samples: Samples;
  readonly engine: Engine;
  readonly onProgress?: OnProgress;
}

export type Phase = "clean" | "calibrate" | "quantize" | "compensate" | "check";

/** @param done share of the phase that is done, from 0 to 1 */
export type OnProgress = (phase: Phase, done: number) => void;

export interface QuantizeOutcome {
  readonly model: Model;
  readonly report: RunReport;
}

/** A float network with everything that is decided on it before samples run. */
export interface Plan {
  readonly float: Model;
  readonly types: ValueTypes;
  readonly choice: LayerChoice;
  readonly clean: RunReport["clean"];
  /** What a user should know of the recipe. */
  readonly warnings: readonly string[];
}

/** Signal to error in decibels. Codes that fall on the other side of a tie leave 20 and more on all models tried. */
const leastFaithfulDb = 10;

/**
 * Makes a model small: cleans it, finds ranges, rounds, compensates, checks that the result runs.
 *
 * @throws RecoupError `quantize/nothing-to-do` where no layer can be quantized, `data/empty`, `model/not-finite`, and what
 * the engine throws
 */
export async function quantizeModel(task: QuantizeTask): Promise<QuantizeOutcome> {
  const { recipe, engine, samples } = task;
  const progress = task.onProgress ?? (() => {});
  refuseNotANumber(task.model.graph);
  progress("clean", 0);
  const plan = await planModel(task.model, recipe, engine);
  if (plan.choice.layers.length === 0) throw nothingToDo(plan.choice, task.model);
  progress("clean", 1);

  const indices = chooseSamples(samples.length, recipe.samples, recipe.seed);
  if (indices.length === 0) throw new RecoupError("data/empty", "holds no samples");
  const fingerprint = await samples.fingerprint(indices);
  const sites = activationSites(plan.float.graph, plan.types, plan.choice);
  const details = neededDetails(sites);
  // An average over the samples in their order needs them one by one.
  const isOrdered = [...details.values()].includes("averageExtremes");
  const first = await take(samples, indices.slice(0, 2));
  const batchSize = isOrdered ? 1 : await chooseBatchSize(engine, plan.float, plan.types, first);
  const batches = () => inBatches(samples.read(indices), batchSize);
  let done = 0;
  const observed = await observe(engine, plan.float, details, batches(), () => {
    done += batchSize;
    progress("calibrate", Math.min(done / indices.length, 1));
  });

  progress("quantize", 0);
  const ranges = estimateRanges(sites, observed);
  const quantized = quantize(plan.float, plan.choice, sites, ranges, recipe.storage);
  progress("quantize", 1);

  const compensated = await compensate(task, plan, quantized, batches, progress);
  const lowered = lowerToIntegers(compensated.model.graph, plan.float.graph, plan.types);
  const model = withMetadata(withGraph(compensated.model, lowered), recipe, fingerprint);
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
      blocks: compensated.blocks,
      layers: recordLayers(quantized),
      skipped: recordSkipped(plan.choice),
      activations: recordActivations(quantized),
      steps: compensated.steps,
      warnings: [...plan.warnings, ...samples.warnings, ...check],
    },
  };
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
    clean: cleaned.steps,
    warnings: [...warnOfQuantized(model), ...warnOfPatterns(recipe, model, float)],
  };
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

async function compensate(
  { recipe, engine }: QuantizeTask,
  { float, types }: Plan,
  quantized: QuantizedModel,
  batches: () => AsyncIterable<NamedFeeds>,
  progress: OnProgress,
) {
  const blocks = findLayerBlocks(
    float.graph,
    types,
    quantized.layers.map(({ plan }) => plan.layer.node),
  );
  const steps: StepRecord[] = [];
  let model = quantized.model;
  if (recipe.steps.length === 0) return { model, steps, blocks: blocks.length };
  progress("compensate", 0);
  const taken: NamedFeeds[] = [];
  for await (const batch of batches()) taken.push(batch);
  for (const [i, { use }] of recipe.steps.entries()) {
    const step = compensations.find((candidate) => candidate.name === use);
    if (!step) throw new RecoupError("recipe/invalid", "is no step", { field: use });
    const layers = quantized.layers.map(({ plan: { layer }, label }) => ({
      label,
      opType: layer.node.opType,
      output: layer.node.outputs[0],
      outputAxis: layer.outputAxis,
    }));
    const open = step.open({ float: float.graph, types, layers });
    const input = { engine, float, current: model, types, blocks, batches: taken };
    const walked = await walk(input, open, (done) => progress("compensate", (i + done) / recipe.steps.length));
    model = walked.model;
    steps.push({ name: use, sites: walked.records });
  }
  return { model, steps, blocks: blocks.length };
}

async function take(samples: Samples, indices: readonly number[]): Promise<readonly NamedFeeds[]> {
  const taken: NamedFeeds[] = [];
  for await (const sample of samples.read(indices)) taken.push(sample);
  return taken;
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
  const { sqnrDb } = await withSession(engine, model, { mode: "exact" }, (written) =>
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
