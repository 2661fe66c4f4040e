import { collect } from "./calibrate/collect.js";
import type { Statistic } from "./calibrate/statistic.js";
import { compareSamples, leastSqnrDb } from "./compare/gain.js";
import type { NamedFeeds } from "./engine/batch.js";
import { type Engine, withSession } from "./engine/engine.js";
import { inferValueTypes } from "./engine/infer-types.js";
import { RecoupError } from "./errors.js";
import type { Graph, ValueName } from "./graph/graph.js";
import { type Model, withGraph } from "./graph/model.js";
import { labelOf } from "./graph/node.js";
import type { Range } from "./math/distribution.js";
import { findLayers } from "./operators/index.js";
import { preparations } from "./prepare/index.js";
import { chooseLayers, type PlannedNetwork } from "./quantize/choose-layers.js";
import type { Recipe } from "./recipe/recipe.js";
import { wishesOf } from "./recipe/wish.js";
import type { AnyStep, OpenStep } from "./step/open-step.js";
import type { OptionValues } from "./step/options.js";
import { type SolvedSite, type StepResult, skipped, solveSites } from "./walk/solve-sites.js";

export interface PreparationTask extends PlannedNetwork {
  readonly engine: Engine;
  readonly recipe: Recipe;
  /** Reads the samples, anew at each call. */
  readonly batches: () => AsyncIterable<NamedFeeds>;
  readonly batchCount: number;
}

export interface PreparedNetwork extends PlannedNetwork {
  readonly steps: readonly StepResult[];
}

/** Signal to difference in decibels between each output before and after: float32 leaves about a hundred. */
const sameFunctionDb = 80;

/** The same where values are rounded to float16 or bfloat16 on their way. */
const sameHalfFunctionDb = 40;

/** The steps of a recipe that change the float network, in its order. */
export function preparationsOf(recipe: Recipe): readonly { readonly step: AnyStep; readonly options: OptionValues }[] {
  return recipe.steps.flatMap(({ use, ...options }) => {
    const step = preparations.find((candidate) => candidate.name === use);
    return step === undefined ? [] : [{ step, options }];
  });
}

/**
 * Statistics of shards are of one network and know nothing of what is held back from it.
 *
 * @throws RecoupError `usage/argument` for a recipe that finds out which network, or which ranges, are best
 */
export function refuseOpenInShards(recipe: Recipe): void {
  const tried = preparationsOf(recipe).find(({ step }) => step.isTried);
  if (!recipe.auto && tried === undefined) return;
  const what = recipe.auto
    ? "steps that are chosen automatically"
    : `the step ${tried?.step.name}, which is tried first`;
  throw new RecoupError("usage/argument", `${what}, cannot be calibrated in shards: run without them`, {
    field: "steps",
  });
}

/**
 * Takes a float network through the steps of its recipe that keep its function, before ranges are looked for. What a step
 * did is taken back where the outputs do not stay the same.
 *
 * @throws RecoupError as `collect` and `applyPatch`
 */
export async function prepareNetwork(task: PreparationTask): Promise<PreparedNetwork> {
  const { engine, recipe, batchCount } = task;
  const weightRanges = new Map<ValueName, readonly Range[]>();
  const steps: StepResult[] = [];
  let network: PlannedNetwork = task;
  for (const { step, options } of preparationsOf(recipe)) {
    const { graph } = network.float;
    const layers = network.choice.layers.map(({ layer }) => ({
      label: labelOf(layer.node),
      opType: layer.node.opType,
      output: layer.node.outputs[0],
      outputAxis: layer.outputAxis,
    }));
    const { types, choice } = network;
    const context = { float: graph, types, layers, plans: choice.layers, current: graph, batches: batchCount };
    const open = step.open(context, options);
    const { graph: rewritten, solved } = await solveSites(graph, { step: 0, sites: open.sites }, (statistics) =>
      collectFrom(engine, network.float, statistics, task.batches),
    );
    const isSame = rewritten === graph || (await haveSameFunction(engine, network, rewritten, task.batches));
    steps.push(resultOf(open, solved, isSame));
    if (!isSame || rewritten === graph) continue;
    addRanges(weightRanges, open, solved);
    network = await planAgain(engine, recipe, withGraph(network.float, rewritten), weightRanges);
  }
  return { ...network, steps };
}

async function collectFrom(
  engine: Engine,
  model: Model,
  statistics: readonly Statistic<unknown>[],
  batches: () => AsyncIterable<NamedFeeds>,
): Promise<void> {
  if (statistics.length > 0) await collect(engine, model, statistics, (tap) => tap.value, batches());
}

function resultOf({ name, outcome, unusable }: OpenStep, solved: readonly SolvedSite[], isSame: boolean): StepResult {
  const takenBack = "taken back: with the changes of this step the outputs do not stay the same";
  const sites = solved.map(({ record }) =>
    isSame || record.kind === "skipped" ? record : skipped(record.label, takenBack),
  );
  return { name, outcome, sites: [...unusable.map(({ label, reason }) => skipped(label, reason)), ...sites] };
}

function addRanges(known: Map<ValueName, readonly Range[]>, open: OpenStep, solved: readonly SolvedSite[]): void {
  for (const { value, solution } of solved) {
    const site = open.sites.find((candidate) => candidate.value === value);
    if (solution === undefined || site === undefined) continue;
    for (const [weight, ranges] of site.weightRanges(solution, known)) known.set(weight, ranges);
  }
}

async function haveSameFunction(
  engine: Engine,
  { float: before, types }: PlannedNetwork,
  rewritten: Graph,
  batches: () => AsyncIterable<NamedFeeds>,
): Promise<boolean> {
  const first = async function* () {
    for await (const batch of batches()) {
      yield batch;
      return;
    }
  };
  const compared = await withSession(engine, before, { mode: "exact" }, (reference) =>
    withSession(engine, withGraph(before, rewritten), { mode: "exact" }, (changed) =>
      compareSamples(reference, changed, first()),
    ),
  );
  const isHalf = [...types.values()].some((type) => type.kind === "tensor" && /^b?float16$/.test(type.elementType));
  return leastSqnrDb(compared) >= (isHalf ? sameHalfFunctionDb : sameFunctionDb);
}

/** Nodes that a step has replaced are other layers than before, with the same names. */
async function planAgain(
  engine: Engine,
  recipe: Recipe,
  float: Model,
  weightRanges: ReadonlyMap<ValueName, readonly Range[]>,
): Promise<PlannedNetwork> {
  const types = await inferValueTypes(engine, float);
  const found = findLayers(float.graph, types);
  const choice = chooseLayers(float.graph, types, found, wishesOf(recipe, found.layers));
  const layers = choice.layers.map((plan) => {
    const ends = weightRanges.get(plan.layer.weight);
    return ends === undefined ? plan : { ...plan, weight: { ...plan.weight, ends } };
  });
  return { float, types, choice: { ...choice, layers } };
}
