import { type Alignment, alignModels, type Unaligned } from "./align/align.js";
import { alignBlocks } from "./align/align-blocks.js";
import { type ForeignGroup, type FoundGrids, findGrids } from "./align/find-grids.js";
import { refitInputs } from "./align/refit-inputs.js";
import { writeGrid } from "./align/write-grid.js";
import type { Block } from "./blocks/blocks.js";
import { findLayerBlocks } from "./blocks/layer-blocks.js";
import { cleanModel } from "./clean/index.js";
import { raiseOpset } from "./clean/opset/raise-opset.js";
import { oldestTarget } from "./clean/opset/versions.js";
import { checkedSamples, checkRuns } from "./compare/check-runs.js";
import { compareOutputs } from "./compare/outputs.js";
import { compensations } from "./compensate/index.js";
import { chooseSamples } from "./data/choose.js";
import type { Sample, Samples } from "./data/samples.js";
import { chooseBatchSize, inBatches } from "./engine/batch.js";
import { type Engine, withSession } from "./engine/engine.js";
import { inferValueTypes } from "./engine/infer-types.js";
import { RecoupError } from "./errors.js";
import { fedInputs } from "./graph/fed-inputs.js";
import type { Value, ValueName } from "./graph/graph.js";
import { type Model, opsetOf, withGraph } from "./graph/model.js";
import { labelOf } from "./graph/node.js";
import { refuseNotANumber } from "./graph/not-a-number.js";
import { shapeOf, type ValueTypes } from "./graph/value-types.js";
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
  refuseStrangers(aligned, layers);
  const { fitted, held } = split(indices);
  const sizes = [
    await chooseBatchSize(engine, plan.float, plan.types, first),
    await chooseBatchSize(engine, plan.quantized, plan.types, first),
  ];
  const batchSize = walkBatchSize(fitted.length, Math.min(...sizes));
  const run: Run = { task, ...plan, aligned, layers, fitted, batchSize };
  const judge = await Judge.open(task, plan, held);
  const trials: Trial[] = [{ steps: [], ...(await judge.measure(quantized)) }];
  judge.refuseEqual(trials[0]);
  let best: Best = { trial: trials[0], model: quantized, walked: undefined };
  let all: Walked | undefined;
  for (const steps of combinations(task.steps)) {
    const walked = await refine(run, steps);
    all ??= walked;
    progress("try", 0);
    const trial = { steps: steps.map(({ use }) => use), ...(await judge.measure(walked.model)) };
    trials.push(trial);
    if (judge.isBetter(trial, best.trial)) best = { trial, model: walked.model, walked };
  }
  progress("check", 0);
  const isChanged = best.walked !== undefined;
  const check = isChanged ? await checkRuns(engine, best.model, samples, indices.slice(0, checkedSamples)) : [];
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

/** All steps, and all but one: a step may harm where others help. */
function combinations(steps: readonly StepRule[]): readonly (readonly StepRule[])[] {
  if (steps.length === 0) return [];
  return [steps, ...(steps.length > 1 ? steps.map((step) => steps.filter((other) => other !== step)) : [])];
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
  const grids = findGrids(aligned.model.graph, float.graph, aligned.values, rangeEstimator);
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

/** The range with the smallest squared error. */
const rangeEstimator = "mse";
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

/** Holds models against the float model on samples that nothing was fitted on, at the runtime's default options. */
class Judge {
  readonly #task: CompensateTask;
  readonly #float: Model;
  readonly #held: readonly number[];
  readonly #isClassifier: boolean;

  private constructor(task: CompensateTask, float: Model, held: readonly number[], isClassifier: boolean) {
    this.#task = task;
    this.#float = float;
    this.#held = held;
    this.#isClassifier = isClassifier;
  }

  static async open(task: CompensateTask, { float, types }: Plan, held: readonly number[]): Promise<Judge> {
    const shape = shapeOf(types, float.graph.outputs[0]?.name ?? "");
    // The softmax of a single value is one, whatever the value.
    return new Judge(task, float, held, shape !== undefined && shape.length <= 2 && shape.at(-1) !== 1);
  }

  async measure(model: Model): Promise<Omit<Trial, "steps">> {
    const { engine, samples } = this.#task;
    const { kl, sqnrDb } = await withSession(engine, this.#float, { mode: "shipped" }, (reference) =>
      withSession(engine, model, { mode: "shipped" }, (other) =>
        compareOutputs(reference, other, samples.read(this.#held)),
      ),
    );
    return { kl, sqnrDb };
  }

  isBetter(trial: Trial, than: Trial): boolean {
    return this.#isClassifier ? trial.kl < than.kl : trial.sqnrDb > than.sqnrDb;
  }

  /** @throws RecoupError `compensate/nothing-to-do` */
  refuseEqual({ sqnrDb }: Trial): void {
    if (sqnrDb < sameDb) return;
    const message = "computes what the float model computes: there is nothing to compensate";
    throw new RecoupError("compensate/nothing-to-do", message);
  }
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

function refuseMismatch(float: Model, quantized: Model): void {
  const describe = (values: readonly Value[]) => values.map(({ name }) => name).join(", ") || "nothing";
  const isSame = (a: readonly Value[], b: readonly Value[]) =>
    a.length === b.length && a.every(({ name }) => b.some((other) => other.name === name));
  const [given, expected] = [fedInputs(quantized.graph), fedInputs(float.graph)];
  const refuse = (message: string) => new RecoupError("compensate/mismatch", message);
  if (!isSame(given, expected)) {
    throw refuse(`takes ${describe(given)} where the float model takes ${describe(expected)}`);
  }
  const [outputs, others] = [quantized.graph.outputs, float.graph.outputs];
  if (!isSame(outputs, others)) {
    throw refuse(`returns ${describe(outputs)} where the float model returns ${describe(others)}`);
  }
}

/** Models of the same inputs and outputs that have nothing else in common. */
function refuseStrangers({ values, unaligned }: Alignment, layers: readonly SiteLayer[]): void {
  if (layers.length > 0 && layers.some(({ output }) => values.has(output))) return;
  const why = layers.length === 0 ? "the float model has no layer with a weight" : firstReason(unaligned);
  throw new RecoupError("compensate/mismatch", `was not made from the float model, as far as can be seen: ${why}`);
}

function firstReason([first]: readonly Unaligned[]): string {
  return first === undefined ? "they share no value" : `${first.label}: ${first.reason}`;
}
