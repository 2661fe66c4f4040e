import type { Block } from "./blocks/blocks.js";
import { findLayerBlocks } from "./blocks/layer-blocks.js";
import { compensations } from "./compensate/index.js";
import type { NamedFeeds } from "./engine/batch.js";
import type { Engine } from "./engine/engine.js";
import type { ValueName } from "./graph/graph.js";
import { type Model, withGraph } from "./graph/model.js";
import { createNameSource } from "./graph/names.js";
import { labelOf } from "./graph/node.js";
import { PatchBatch } from "./graph/patch-batch.js";
import type { ValueTypes } from "./graph/value-types.js";
import type { Range } from "./math/distribution.js";
import type { LayerChoice } from "./quantize/choose-layers.js";
import type { ActivationGroup } from "./quantize/group-activations.js";
import type { QuantizedModel } from "./quantize/quantize.js";
import { putRounded, roundWeightToNearest, type WeightToRound, weightSqnr } from "./quantize/round-weights.js";
import type { QuantizedRows } from "./quantize/weight.js";
import type { Recipe } from "./recipe/recipe.js";
import { gptqObstacle, gptqRounding, roundingName } from "./round/gptq.js";
import { liveRanges, rangesName } from "./round/live-ranges.js";
import type { OpenStep } from "./step/open-step.js";
import type { SiteLayer } from "./step/step.js";
import { inMemory, type TensorStore } from "./tensor/tensor-store.js";
import type { SiteRecord, StepResult } from "./walk/solve-sites.js";
import { surveySites } from "./walk/survey.js";
import { mostHeldBeside, type WalkOptions, walk } from "./walk/walk.js";

/** How many samples a walk runs at once: so that there are two batches, so that what is found on one half can be tried on the other. */
export function walkBatchSize(sampleCount: number, batchSize: number): number {
  return Math.max(1, Math.min(batchSize, Math.ceil(sampleCount / 2)));
}

/** A quantized network that is to be refined on samples. */
export interface RefinementTask {
  readonly engine: Engine;
  readonly recipe: Recipe;
  readonly float: Model;
  readonly types: ValueTypes;
  readonly choice: LayerChoice;
  readonly quantized: QuantizedModel;
  /** Read once more where a step looks at all its sites first. */
  readonly batches: AsyncIterable<NamedFeeds>;
  /** How many batches there are. */
  readonly batchCount: number;
  /** Where codes of weights stay until the model is written; in memory where it is not given. */
  readonly store?: TensorStore;
}

export interface RefineOptions extends WalkOptions {
  /** Where the batches are some of `batchCount` only. */
  readonly rehearsal?: {
    readonly batches: number;
    /** What the walk takes instead of the steps. */
    replaceSteps(steps: readonly OpenStep[]): readonly OpenStep[];
  };
}

export interface Refined {
  readonly model: Model;
  readonly blocks: readonly Block[];
  readonly steps: readonly StepResult[];
  /** Signal to quantization noise of all weights, in decibels. */
  readonly weightSqnrDb: ReadonlyMap<ValueName, number>;
  /** The groups of activations with the ranges that they got. */
  readonly groups: readonly ActivationGroup[];
}

/**
 * Rounds the weights that wait for the inputs of their layers and compensates, in one walk through the network.
 *
 * @throws RecoupError `model/not-finite`, and as `walk`
 */
export async function refine(task: RefinementTask, options: RefineOptions = {}): Promise<Refined> {
  const { engine, float, types, choice, quantized, batches } = task;
  const nodes = choice.layers.map(({ layer }) => layer.node);
  const blocks = findLayerBlocks(float.graph, types, nodes);
  const { model, waiting, rounded, records } = roundUnfit(task);
  const open = openSteps(task, model, waiting, blocks, options.rehearsal !== undefined);
  const sqnrDb = new Map([...quantized.weightSqnrDb, ...rounded]);
  if (open.length === 0) return { model, blocks, steps: [], weightSqnrDb: sqnrDb, groups: quantized.groups };
  const { rehearsal } = options;
  const mostHeldBytes = rehearsal && (mostHeldBeside * rehearsal.batches) / task.batchCount;
  const input = { engine, float, current: model, types, blocks, batches, mostHeldBytes };
  options.onProgress?.(0);
  const settled = await surveySites({ ...input, current: roundForSurvey(model, waiting, open) }, open);
  const walked = await walk(input, rehearsal?.replaceSteps(settled) ?? settled, options);
  const solutionsOf = (name: string) =>
    new Map(walked.solved.filter(({ step }) => open[step].name === name).map((one) => [one.value, one.solution]));
  return {
    model: walked.model,
    blocks,
    steps: open.map(({ name, outcome }, i) => {
      const sites = name === roundingName ? [...records, ...walked.records[i]] : walked.records[i];
      return { name, outcome, sites };
    }),
    weightSqnrDb: new Map([...sqnrDb, ...sqnrOf(waiting, solutionsOf(roundingName))]),
    groups: withRanges(quantized.groups, solutionsOf(rangesName)),
  };
}

function openSteps(
  { recipe, float, types, choice, quantized, batchCount }: RefinementTask,
  { graph }: Model,
  waiting: readonly WeightToRound[],
  blocks: readonly Block[],
  keepsDoubtful: boolean,
): readonly OpenStep[] {
  const steps = [
    // Without a weight to round it still tells why.
    ...(quantized.unrounded.length > 0 ? [{ step: gptqRounding(waiting), options: {} }] : []),
    ...compensationsOf(recipe),
  ];
  const layers = choice.layers.map(
    ({ layer }): SiteLayer => ({
      label: labelOf(layer.node),
      opType: layer.node.opType,
      output: layer.node.outputs[0],
      outputAxis: layer.outputAxis,
    }),
  );
  const plans = choice.layers;
  const context = { float: float.graph, types, layers, plans, current: graph, batches: batchCount, keepsDoubtful };
  const open = steps.map(({ step, options }) => step.open(context, options));
  const moved = new Set(open.flatMap(({ movesRanges, sites }) => (movesRanges ? sites.map(({ value }) => value) : [])));
  const live = quantized.groups.filter(
    ({ format, sites }) => format.rangeFrom === "quantized" || sites.some(({ value }) => moved.has(value)),
  );
  return live.length > 0 ? [...open, liveRanges(live, blocks).open(context)] : open;
}

/** Solutions by the values that they change. */
type Solutions = ReadonlyMap<ValueName, unknown>;

function sqnrOf(weights: readonly WeightToRound[], rounded: Solutions): ReadonlyMap<ValueName, number> {
  return new Map(
    weights.flatMap((weight) => {
      const rows = rounded.get(weight.plans[0].layer.node.outputs[0]) as QuantizedRows | undefined;
      return rows === undefined ? [] : [[weight.weight, weightSqnr(weight, rows)] as const];
    }),
  );
}

function withRanges(groups: readonly ActivationGroup[], found: Solutions): readonly ActivationGroup[] {
  return groups.map((group) => {
    const range = group.sites
      .map(({ value }) => found.get(value) as Range | undefined)
      .find((one) => one !== undefined);
    return range === undefined ? group : { ...group, range };
  });
}

interface Unfit {
  readonly model: Model;
  /** Weights that are rounded on the walk. */
  readonly waiting: readonly WeightToRound[];
  /** Signal to quantization noise of those that are rounded now, in decibels. */
  readonly rounded: ReadonlyMap<ValueName, number>;
  readonly records: readonly SiteRecord[];
}

/** Rounds to nearest what cannot be rounded by the input of its layers. */
function roundUnfit({ float, types, quantized, store = inMemory }: RefinementTask): Unfit {
  const names = createNameSource(quantized.model.graph);
  const batch = new PatchBatch(quantized.model.graph, "round weights to nearest");
  const writing = { names, shared: new Map<string, ValueName>(), store };
  const waiting: WeightToRound[] = [];
  const rounded = new Map<ValueName, number>();
  const records: SiteRecord[] = [];
  for (const weight of quantized.unrounded) {
    const obstacle = gptqObstacle(float.graph, types, weight);
    if (obstacle === undefined) {
      waiting.push(weight);
      continue;
    }
    const { rows, sqnrDb } = roundWeightToNearest(weight);
    putRounded(batch, weight, rows, writing);
    rounded.set(weight.weight, sqnrDb);
    const label = labelOf(weight.plans[0].layer.node);
    records.push({ label, kind: "skipped", reason: `rounded to nearest: ${obstacle}` });
  }
  return { model: withGraph(quantized.model, batch.finish()), waiting, rounded, records };
}

/** The network in which sites are looked at before the walk: weights that it rounds later are rounded to nearest there. */
function roundForSurvey(model: Model, waiting: readonly WeightToRound[], steps: readonly OpenStep[]): Model {
  if (steps.every(({ survey }) => survey === undefined)) return model;
  const batch = new PatchBatch(model.graph, "round weights to nearest");
  const writing = {
    names: createNameSource(model.graph),
    shared: new Map<string, ValueName>(),
    store: inMemory,
  };
  for (const weight of waiting) putRounded(batch, weight, roundWeightToNearest(weight).rows, writing);
  return withGraph(model, batch.finish());
}

/** The steps of a recipe that go on the walk, in its order. */
function compensationsOf(recipe: Recipe) {
  return recipe.steps.flatMap(({ use, ...options }) => {
    const step = compensations.find((candidate) => candidate.name === use);
    return step === undefined ? [] : [{ step, options }];
  });
}
