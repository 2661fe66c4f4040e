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
import { type Compared, compareSamples } from "./compare/gain.js";
import { chooseSamples } from "./data/choose.js";
import type { Sample, Samples } from "./data/samples.js";
import { chooseBatchSize } from "./engine/batch.js";
import { type Engine, withSession } from "./engine/engine.js";
import { RecoupError } from "./errors.js";
import type { Model } from "./graph/model.js";
import { refuseNotANumber } from "./graph/not-a-number.js";
import { dropBrokenTraining } from "./graph/training.js";
import { shapeOf } from "./graph/value-types.js";
import { refuseUnknownOutputs } from "./recipe/named-outputs.js";
import type { StepRule } from "./recipe/recipe.js";
import { textOfStep } from "./recipe/settings.js";
import { walkBatchSize } from "./refinement.js";
import type { CompensationReport, CompensationResult } from "./report/compensation-report.js";
import { rangesName } from "./round/live-ranges.js";
import { bestOf, tryVariants, type Variant } from "./variants.js";
import { version } from "./version.js";
import { formsIn, type StepResult } from "./walk/solve-sites.js";

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
 * closer to the float model on samples that nothing was fitted on; steps are left out there too, and the best is kept.
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
  const given: TriedModel = {
    steps: [],
    model: quantized,
    forms: {},
    ...(await compareHeld(task, plan.float, quantized, held)),
  };
  refuseEqual(given);
  const rank = shapeOf(plan.types, plan.float.graph.outputs[0]?.name ?? "")?.length ?? Number.POSITIVE_INFINITY;
  const { tried, best: found } = await tryVariants({
    ...{ asked: task.steps, given, rank, open: { use: rangesName, estimators: triedEstimators } },
    async tryOut(steps): Promise<TriedModel> {
      const walked = await walkAligned(run, steps, (done) => progress("refine", done));
      progress("try", 0);
      const compared = await compareHeld(task, plan.float, walked.model, held);
      return { steps, model: walked.model, walked, forms: formsIn(walked.results), ...compared };
    },
  });
  progress("check", 0);
  const { best, warnings: check } = await firstFaithful(tried, found, rank, (model) =>
    checkBeside(task, plan.float, model, indices.slice(0, checkedSamples)),
  );
  const { walked } = best;
  const isChanged = walked !== undefined;
  const { blocks = 0 } = walked ?? tried[1]?.walked ?? {};
  const { model, warnings } = isChanged
    ? dropBrokenTraining(withMetadata(best.model, best.steps.map(textOfStep), data))
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
      blocks,
      unaligned: aligned.unaligned,
      trials: tried.map((one) => {
        const { steps, kl, sqnrDb } = one;
        return { steps: steps.map(textOfStep), kl, sqnrDb, taken: one === best };
      }),
      held: held === fitted ? 0 : held.length,
      isChanged,
      results: resultsOf(tried, best),
      warnings: [...plan.warnings, ...samples.warnings, ...warnOfSamples(held, fitted), ...warnings, ...check],
    },
  };
}

/** The model as it was given, or what steps made of it: then with what they did. */
interface TriedModel extends Variant, Compared {
  readonly model: Model;
  readonly walked?: Walked;
}

/** A step that was left out has its reasons too: they stand in the first trial, which had all steps. */
function resultsOf([, first]: readonly TriedModel[], { walked }: TriedModel): readonly CompensationResult[] {
  const kept = walked?.results ?? [];
  const all = first?.walked?.results ?? [];
  const countOf = (results: readonly StepResult[], wanted: string) =>
    results.filter(({ name }) => name === wanted).length;
  // A step that was asked for twice may be left out once.
  const dropped = all.filter(({ name }, i) => countOf(all.slice(0, i + 1), name) > countOf(kept, name));
  return [...kept.map((one) => ({ ...one, kept: true })), ...dropped.map((one) => ({ ...one, kept: false }))];
}

/**
 * The best of what the runtime computes as it is written: what it gets wrong is not taken, and said. The model as it was given is
 * beyond that.
 *
 * @param check as `checkBeside`
 */
async function firstFaithful(
  tried: readonly TriedModel[],
  found: TriedModel,
  rank: number,
  check: (model: Model) => Promise<readonly string[]>,
): Promise<{ readonly best: TriedModel; readonly warnings: readonly string[] }> {
  const warnings: string[] = [];
  let [best, left] = [found, tried];
  while (best.walked !== undefined) {
    try {
      return { best, warnings: [...warnings, ...(await check(best.model))] };
    } catch (error) {
      if (!isUnfaithful(error)) throw error;
      warnings.push(`${best.steps.map(textOfStep).join(",")} came out best and is not taken: ${error.message}`);
      const refused = best;
      left = left.filter((one) => one !== refused);
      best = bestOf(left, left[0], rank);
    }
  }
  return { best, warnings };
}

/** At the runtime's default options: as whoever ships the model runs it. */
function compareHeld(
  { engine, samples }: CompensateTask,
  float: Model,
  model: Model,
  held: readonly number[],
): Promise<Compared> {
  return withSession(engine, float, { mode: "shipped" }, (reference) =>
    withSession(engine, model, { mode: "shipped" }, (other) => compareSamples(reference, other, samples.read(held))),
  );
}

/** @throws RecoupError `compensate/nothing-to-do` */
function refuseEqual({ sqnrDb }: Compared): void {
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
  try {
    return await checkRuns(engine, model, float, samples, indices);
  } catch (error) {
    if (!isUnfaithful(error)) throw error;
    const given = await checkRuns(engine, quantized, float, samples, indices).catch((other: unknown) => other);
    if (!isUnfaithful(given)) throw error;
    return [`${error.message}; so it is with the model as it was given`];
  }
}

function isUnfaithful(error: unknown): error is RecoupError {
  return error instanceof RecoupError && error.code === "export/unfaithful";
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
