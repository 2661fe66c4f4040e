import { type Alignment, alignModels } from "./align/align.js";
import { alignBlocks } from "./align/align-blocks.js";
import { type ForeignGroup, type FoundGrids, findGrids } from "./align/find-grids.js";
import { refitInputs } from "./align/refit-inputs.js";
import { refuseMismatch, refuseStrangers } from "./align/refuse.js";
import { writeGrid } from "./align/write-grid.js";
import type { Block } from "./blocks/blocks.js";
import { findLayerBlocks } from "./blocks/layer-blocks.js";
import { cleanModel } from "./clean/index.js";
import { raiseOpset } from "./clean/opset/raise-opset.js";
import { oldestTarget } from "./clean/opset/versions.js";
import { checkedSamples, checkRuns } from "./compare/check-runs.js";
import { Judge } from "./compare/judge.js";
import { compensations } from "./compensate/index.js";
import { chooseSamples } from "./data/choose.js";
import type { Sample, Samples } from "./data/samples.js";
import { chooseBatchSize, inBatches } from "./engine/batch.js";
import type { Engine } from "./engine/engine.js";
import { inferValueTypes } from "./engine/infer-types.js";
import { RecoupError } from "./errors.js";
import type { ValueName } from "./graph/graph.js";
import { type Model, opsetOf, withGraph } from "./graph/model.js";
import { labelOf } from "./graph/node.js";
import { refuseNotANumber } from "./graph/not-a-number.js";
import type { ValueTypes } from "./graph/value-types.js";
import { findLayers } from "./operators/index.js";
import type { StepRule } from "./recipe/recipe.js";
import { walkBatchSize } from "./refinement.js";
import type { CompensationReport, Trial } from "./report/compensation-report.js";
import { fitRanges, rangesName } from "./round/live-ranges.js";
import type { AnyStep, OpenSite, OpenStep, SiteLayer } from "./step/step.js";
import { version } from "./version.js";
import type { StepResult } from "./walk/solve-sites.js";
import { walk } from "./walk/walk.js";

/** What a run is told; the same task gives the same bytes. */
export interface CompensateTask {
  readonly float: Model;
  /** Made from the float model, by any tool. */
  readonly quantized: Model;
  /** In order. Besides compensations there is `ranges`, which fits the grids of activations again. */
  readonly steps: readonly StepRule[];
  readonly samples: Samples;
  /** How many samples to use. */
  readonly sampleCount: number;
  readonly seed: number;
  readonly engine: Engine;
  readonly onProgress?: (phase: CompensatePhase, done: number) => void;
}

export type CompensatePhase = "clean" | "align" | "refine" | "try" | "check";

export interface CompensateOutcome {
  /** The quantized model itself where nothing has helped. */
  readonly model: Model;
  readonly report: CompensationReport;
}

/** Of so many samples the last is held back: what is fitted on the others is tried on it. */
const heldBack = 4;
/** Samples on which values are tried: a pair that belongs together does so on any. */
const alignedOn = 2;

/**
 * Lowers the error of a model that another tool has quantized, by steps that go on the walk through float and quantized
 * network. The two are brought together first: what is a value of the one in the other. The result is kept only if it is
 * closer to the float model on samples that nothing was fitted on; each step is left out once too, and the best is kept.
 *
 * @throws RecoupError `compensate/mismatch` for models with other inputs or outputs or with no value in common,
 * `compensate/nothing-to-do` for a model that computes what the float model does, `data/empty`, `model/not-finite`, and
 * what the engine throws
 */
export async function compensateModel(task: CompensateTask): Promise<CompensateOutcome> {
  const { float, quantized, samples, engine, onProgress: progress = () => {} } = task;
  refuseMismatch(float, quantized);
  refuseNotANumber(float.graph);
  const indices = chooseSamples(samples.length, task.sampleCount, task.seed);
  if (indices.length === 0) throw new RecoupError("data/empty", "holds no samples");
  progress("clean", 0);
  const plan = await bringTogether(task);
  progress("align", 0);
  const first = await take(samples, indices.slice(0, alignedOn));
  const aligned = await alignModels({ engine, ...plan, batches: first });
  const layers = layersOf(plan.float, plan.types);
  refuseStrangers(
    aligned,
    layers.map(({ output }) => output),
  );
  const { fitted, held } = split(indices);
  const sizes = [
    await chooseBatchSize(engine, plan.float, plan.types, first),
    await chooseBatchSize(engine, plan.quantized, plan.types, first),
  ];
  const batchSize = walkBatchSize(fitted.length, Math.min(...sizes));
  const run: Run = { task, ...plan, aligned, layers, fitted, batchSize };
  const judge = new Judge({ ...plan, engine, samples, held });
  const given: Trial = { steps: [], ...(await judge.measure(quantized)) };
  refuseEqual(given);
  const { trials, best, first: all } = await tryVariants(run, judge, given);
  progress("check", 0);
  const isChanged = best.walked !== undefined;
  const check = isChanged ? await checkBeside(task, plan.float, best.model, indices.slice(0, checkedSamples)) : [];
  const { walked = all } = best;
  const data = await samples.fingerprint(indices);
  const model = !isChanged ? quantized : withMetadata(best.model, best.trial.steps, data);
  return {
    model,
    report: {
      schemaVersion: 1,
      version,
      steps: task.steps,
      data: { description: samples.description, samples: indices.length, available: samples.length, fingerprint: data },
      aligned: {
        values: aligned.values.size,
        layers: layers.filter(({ output }) => aligned.values.has(output)).length,
      },
      layers: layers.length,
      blocks: walked?.blocks ?? 0,
      unaligned: aligned.unaligned,
      trials,
      held: held.length,
      isChanged,
      results: walked?.results ?? [],
      warnings: [...plan.warnings, ...samples.warnings, ...warnOfSamples(held, fitted), ...check],
    },
  };
}

/** What is closest to the float model so far; the model as it was given was not walked through. */
interface Best {
  readonly trial: Trial;
  readonly model: Model;
  readonly walked: Walked | undefined;
}

interface Tried {
  readonly trials: readonly Trial[];
  readonly best: Best;
  /** What all steps led to. */
  readonly first: Walked | undefined;
}

/** The steps with each estimator that is open, then each step left out once: it may harm where others help. */
async function tryVariants(run: Run, judge: Judge, given: Trial): Promise<Tried> {
  const { steps: asked, quantized, onProgress = () => {} } = run.task;
  const trials = [given];
  let best: Best = { trial: given, model: quantized, walked: undefined };
  let first: Walked | undefined;
  const tryOut = async (steps: readonly StepRule[]) => {
    const walked = await refine(run, steps);
    first ??= walked;
    onProgress("try", 0);
    const trial = { steps: steps.map(nameOf), ...(await judge.measure(walked.model)) };
    trials.push(trial);
    if (judge.isBetter(trial, best.trial)) best = { trial, model: walked.model, walked };
    return { steps, trial };
  };
  if (asked.length === 0) return { trials, best, first };
  const whole = [];
  for (const steps of withEstimators(asked)) whole.push(await tryOut(steps));
  const { steps } = whole.reduce((a, b) => (judge.isBetter(b.trial, a.trial) ? b : a));
  if (steps.length > 1) for (const step of steps) await tryOut(steps.filter((other) => other !== step));
  return { trials, best, first };
}

/** The steps with each estimator that `ranges` leaves open. */
function withEstimators(steps: readonly StepRule[]): readonly (readonly StepRule[])[] {
  const isOpen = ({ use, range }: StepRule) => use === rangesName && range === undefined;
  if (!steps.some(isOpen)) return [steps];
  return triedEstimators.map((range) => steps.map((step) => (isOpen(step) ? { ...step, range } : step)));
}

interface Plan {
  readonly float: Model;
  readonly quantized: Model;
  readonly types: ValueTypes;
  readonly warnings: readonly string[];
}

/** The float network cleaned, both in one version of the standard's operators. */
async function bringTogether({ float: given, quantized, engine }: CompensateTask): Promise<Plan> {
  const { model: cleaned } = await cleanModel(given, { engine });
  const target = Math.max(oldestTarget, opsetOf(cleaned), opsetOf(quantized));
  const raise = async (model: Model) =>
    opsetOf(model) >= target ? model : raiseOpset(model, target, await inferValueTypes(engine, model));
  const float = await raise(cleaned);
  const raised = await raise(quantized);
  const from = `from operator set ${opsetOf(quantized)} to ${target}`;
  const warnings = raised === quantized ? [] : [`the quantized model was raised ${from}, as the float model's is`];
  return { float, quantized: raised, types: await inferValueTypes(engine, float), warnings };
}

interface Run extends Plan {
  readonly task: CompensateTask;
  readonly aligned: Alignment;
  readonly layers: readonly SiteLayer[];
  readonly fitted: readonly number[];
  readonly batchSize: number;
}

interface Walked {
  readonly model: Model;
  readonly blocks: number;
  readonly results: readonly StepResult[];
}

/** Takes the quantized network through some steps. */
async function refine(run: Run, rules: readonly StepRule[]): Promise<Walked> {
  const { task, float, types, aligned, fitted, batchSize } = run;
  const { samples, engine, onProgress: progress = () => {} } = task;
  const nodes = findLayers(float.graph, types).layers.map(({ node }) => node);
  const all = findLayerBlocks(float.graph, types, nodes);
  const fits = rules.some(({ use }) => use === rangesName);
  const grids = findGrids(aligned.model.graph, float.graph, aligned.values, estimatorOf(rules));
  const batches = () => inBatches(samples.read(fitted), batchSize);
  const inputs = fits ? await refitInputs(engine, float, aligned.model, grids.groups, batches()) : undefined;
  const current = inputs ? inputs.model : aligned.model;
  const blocks = alignBlocks(all, current.graph, aligned.values);
  const context = {
    float: float.graph,
    types,
    layers: run.layers,
    plans: [],
    current: current.graph,
    batches: Math.ceil(fitted.length / batchSize),
  };
  const open = rules.map(({ use, ...options }) => {
    const step = use === rangesName ? rangesStep(grids, blocks) : stepNamed(use);
    return onAligned(step.open(context, options), run);
  });
  progress("refine", 0);
  const walked = await walk({ engine, float, current, types, blocks, batches: batches() }, open, {
    onProgress: (done) => progress("refine", done),
  });
  const restored = withGraph(run.quantized, aligned.restore(walked.model.graph));
  const results = open.map(({ name, outcome }, i): StepResult => {
    const isRanges = name === rangesName;
    const left = grids.left.map(({ label, reason }) => ({ label, kind: "skipped", reason }) as const);
    const before = isRanges ? [...(inputs?.records ?? []), ...left] : [];
    return { name, outcome, sites: [...before, ...walked.records[i]] };
  });
  return { model: restored, blocks: blocks.length, results };
}

/** What `ranges` tries where it is not told: the smallest squared error, and everything that was seen. */
export const triedEstimators = ["mse", "minmax"] as const;

function estimatorOf(rules: readonly StepRule[]): string {
  const range = rules.find(({ use }) => use === rangesName)?.range;
  return typeof range === "string" ? range : triedEstimators[0];
}

/** The step as it is written on the command line. */
function nameOf({ use, ...options }: StepRule): string {
  return [use, ...Object.entries(use === rangesName ? options : {}).map(([key, value]) => `${key}=${value}`)].join(":");
}
/** A grid that fits nearly as well is left as another tool has chosen it. */
const leastGain = 0.1;

function rangesStep({ groups }: FoundGrids, blocks: readonly Block[]): AnyStep {
  const roundedFrom = ({ sources }: ForeignGroup, value: ValueName) => sources.get(value) ?? value;
  const onlyGrows = ({ isLast }: ForeignGroup) => isLast;
  return fitRanges(groups, blocks, { write: writeGrid, roundedFrom, leastGain, onlyGrows });
}

function stepNamed(name: string): AnyStep {
  const step = compensations.find((candidate) => candidate.name === name);
  if (step !== undefined) return step;
  throw new RecoupError("usage/argument", `is no step that compensates: ${stepNames.join(", ")}`, { field: name });
}

export { rangesName };

/** The steps that there are, in the order of help. */
export const stepNames: readonly string[] = [rangesName, ...compensations.map(({ name }) => name)];

/** What a step wants to look at or change has to be in both networks. */
function onAligned(step: OpenStep, { float, aligned }: Run): OpenStep {
  const { graph } = aligned.model;
  const isThere = (value: ValueName) => {
    if (aligned.values.has(value)) return true;
    const isOfFloat = float.graph.producer(value) !== undefined;
    return !isOfFloat && (graph.producer(value) !== undefined || graph.isInput(value));
  };
  const missing = (site: OpenSite) =>
    [site.value, ...site.taps.filter(({ from }) => from === "current").map(({ value }) => value)].find(
      (value) => !isThere(value),
    );
  const found = step.sites.map((site) => ({ site, value: missing(site) }));
  const lost = found.flatMap(({ site, value }) =>
    value === undefined ? [] : [{ label: site.label, reason: `${value} was not found in the quantized model` }],
  );
  return {
    ...step,
    sites: found.flatMap(({ site, value }) => (value === undefined ? [site] : [])),
    unusable: [...step.unusable, ...lost],
  };
}

function layersOf(float: Model, types: ValueTypes): readonly SiteLayer[] {
  return findLayers(float.graph, types).layers.map(({ node, outputAxis }) => ({
    label: labelOf(node),
    opType: node.opType,
    output: node.outputs[0],
    outputAxis,
  }));
}

/** @throws RecoupError `compensate/nothing-to-do` */
function refuseEqual({ sqnrDb }: Trial): void {
  if (sqnrDb < sameDb) return;
  const message = "computes what the float model computes: there is nothing to compensate";
  throw new RecoupError("compensate/nothing-to-do", message);
}

/** Two ways to compute the same differ by less than this, in decibels. */
const sameDb = 80;

function split(indices: readonly number[]): { readonly fitted: readonly number[]; readonly held: readonly number[] } {
  const isHeld = (_: number, i: number) => i % heldBack === heldBack - 1;
  const held = indices.filter(isHeld);
  // One sample is better than none.
  if (held.length === 0) return { fitted: indices, held: indices };
  return { fitted: indices.filter((index, i) => !isHeld(index, i)), held };
}

/**
 * As `checkRuns`; but what the runtime did to the model as it was given already is no fault of the change.
 *
 * @throws RecoupError `export/unfaithful`
 */
async function checkBeside(
  { engine, quantized, samples }: CompensateTask,
  float: Model,
  model: Model,
  indices: readonly number[],
): Promise<readonly string[]> {
  const isUnfaithful = (error: unknown) => error instanceof RecoupError && error.code === "export/unfaithful";
  try {
    return await checkRuns(engine, model, float, samples, indices);
  } catch (error) {
    if (!isUnfaithful(error)) throw error;
    const given = await checkRuns(engine, quantized, float, samples, indices).catch((other: unknown) => other);
    if (!isUnfaithful(given)) throw error;
    return [`${(error as RecoupError).message}; so it is with the model as it was given`];
  }
}

function warnOfSamples(held: readonly number[], fitted: readonly number[]): readonly string[] {
  return held === fitted
    ? [`${fitted.length} samples are too few to hold some back: the trial is on those that were fitted`]
    : [];
}

async function take(samples: Samples, indices: readonly number[]): Promise<readonly Sample[]> {
  const taken: Sample[] = [];
  for await (const sample of samples.read(indices)) taken.push(sample);
  return taken;
}

/** What was done goes into the model itself; what another tool wrote there stays. */
function withMetadata(model: Model, steps: readonly string[], dataFingerprint: string): Model {
  const metadata = new Map(model.metadata);
  metadata.set("recoup.version", version);
  metadata.set("recoup.compensation", JSON.stringify({ steps }));
  metadata.set("recoup.data", dataFingerprint);
  return { ...model, metadata };
}
