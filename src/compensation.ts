import { alignModels } from "./align/align.js";
import { refuseMismatch, refuseStrangers } from "./align/refuse.js";
import {
  type AlignedPair,
  bringTogether,
  layersOf,
  triedEstimators,
  type Walked,
  walkAligned,
} from "./aligned-walk.js";
import { checkedSamples, checkRuns } from "./compare/check-runs.js";
import { Judge } from "./compare/judge.js";
import { chooseSamples } from "./data/choose.js";
import type { Sample, Samples } from "./data/samples.js";
import { chooseBatchSize } from "./engine/batch.js";
import type { Engine } from "./engine/engine.js";
import { RecoupError } from "./errors.js";
import type { Model } from "./graph/model.js";
import { refuseNotANumber } from "./graph/not-a-number.js";
import { dropBrokenTraining } from "./graph/training.js";
import { alternativesOf, simplerThan } from "./recipe/candidates.js";
import { refuseUnknownOutputs } from "./recipe/named-outputs.js";
import type { StepRule } from "./recipe/recipe.js";
import { textOfStep } from "./recipe/settings.js";
import { walkBatchSize } from "./refinement.js";
import type { CompensationReport, Trial } from "./report/compensation-report.js";
import { rangesName } from "./round/live-ranges.js";
import { type FormsTaken, joinForms } from "./step/forms.js";
import { version } from "./version.js";
import { formsIn } from "./walk/solve-sites.js";

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

export { stepNames, triedEstimators } from "./aligned-walk.js";
export { rangesName };

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
 * `compensate/nothing-to-do` for a model that computes what the float model does, `data/empty`, `data/not-finite`,
 * `model/not-finite`, as `refuseUnknownOutputs`, and what the engine throws
 */
export async function compensateModel(task: CompensateTask): Promise<CompensateOutcome> {
  const { float, quantized, samples, engine, onProgress: progress = () => {} } = task;
  refuseMismatch(float, quantized);
  refuseUnknownOutputs(task.steps, float.graph);
  refuseNotANumber(float.graph);
  const indices = chooseSamples(samples.length, task.sampleCount, task.seed);
  if (indices.length === 0) throw new RecoupError("data/empty", "holds no samples");
  // Samples are looked at for it: what is wrong with them shall not wait for hours of work.
  const data = await samples.fingerprint(indices);
  progress("clean", 0);
  const plan = await bringTogether(float, quantized, engine);
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
  const run: AlignedPair = { engine, samples, ...plan, aligned, layers, fitted, batchSize };
  const judge = new Judge({ ...plan, engine, samples, held });
  const given: Trial = { steps: [], ...(await judge.measure(quantized)) };
  refuseEqual(given);
  const { trials, best, first: all } = await tryVariants(task, run, judge, given);
  progress("check", 0);
  const isChanged = best.walked !== undefined;
  const check = isChanged ? await checkBeside(task, plan.float, best.model, indices.slice(0, checkedSamples)) : [];
  const { walked = all } = best;
  const { model, warnings } = isChanged
    ? dropBrokenTraining(withMetadata(best.model, best.trial.steps, data))
    : { model: quantized, warnings: [] };
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
      held: held === fitted ? 0 : held.length,
      isChanged,
      results: walked?.results ?? [],
      warnings: [...plan.warnings, ...samples.warnings, ...warnOfSamples(held, fitted), ...warnings, ...check],
    },
  };
}

/** What is closest to the float model so far; the model as it was given was not walked through. */
interface Best {
  readonly steps: readonly StepRule[];
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

/**
 * The steps with each estimator that is open, then each step left out once: it may harm where others help. Where one took a costlier
 * form it is tried in a simpler one, and where it leaves another way open in that.
 */
async function tryVariants(task: CompensateTask, run: AlignedPair, judge: Judge, given: Trial): Promise<Tried> {
  const { steps: asked, quantized, onProgress = () => {} } = task;
  const trials = [given];
  let best: Best = { steps: [], trial: given, model: quantized, walked: undefined };
  let first: Walked | undefined;
  const taken: FormsTaken[] = [];
  const tryOut = async (steps: readonly StepRule[]) => {
    const walked = await walkAligned(run, steps, (done) => onProgress("refine", done));
    first ??= walked;
    taken.push(formsIn(walked.results));
    onProgress("try", 0);
    const trial = { steps: steps.map(textOfStep), ...(await judge.measure(walked.model)) };
    trials.push(trial);
    if (judge.isBetter(trial, best.trial)) best = { steps, trial, model: walked.model, walked };
    return { steps, trial };
  };
  if (asked.length === 0) return { trials, best, first };
  const whole = [];
  for (const steps of withEstimators(asked)) whole.push(await tryOut(steps));
  const { steps } = whole.reduce((a, b) => (judge.isBetter(b.trial, a.trial) ? b : a));
  if (steps.length > 1) for (const step of steps) await tryOut(steps.filter((other) => other !== step));
  const forms = joinForms(taken);
  for (const step of steps) {
    for (const other of [...simplerThan(step, forms), ...alternativesOf(step)]) {
      const beside = best.steps.includes(step) ? best.steps : steps;
      await tryOut(withOther(beside, step, other));
    }
  }
  return { trials, best, first };
}

function withOther(steps: readonly StepRule[], step: StepRule, other: StepRule): readonly StepRule[] {
  return steps.map((one) => (one === step ? other : one));
}

/** The steps with each estimator that `ranges` leaves open. */
function withEstimators(steps: readonly StepRule[]): readonly (readonly StepRule[])[] {
  const isOpen = ({ use, range }: StepRule) => use === rangesName && range === undefined;
  if (!steps.some(isOpen)) return [steps];
  return triedEstimators.map((range) => steps.map((step) => (isOpen(step) ? { ...step, range } : step)));
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
  if (held !== fitted) return [];
  const few = fitted.length === 1 ? "1 sample is" : `${fitted.length} samples are`;
  return [`${few} too few to hold some back: the trial is on what was fitted`];
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
