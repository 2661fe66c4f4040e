import type { Block } from "./blocks/blocks.js";
import { findLayerBlocks } from "./blocks/layer-blocks.js";
import { compensations } from "./compensate/index.js";
import type { OpenStep, SiteLayer } from "./compensate/step.js";
import type { NamedFeeds } from "./engine/batch.js";
import type { Engine } from "./engine/engine.js";
import { RecoupError } from "./errors.js";
import type { ValueName } from "./graph/graph.js";
import { type Model, withGraph } from "./graph/model.js";
import { createNameSource } from "./graph/names.js";
import { labelOf } from "./graph/node.js";
import { applyPatch } from "./graph/patch.js";
import type { ValueTypes } from "./graph/value-types.js";
import type { LayerChoice } from "./quantize/choose-layers.js";
import type { RoundingTarget } from "./quantize/format.js";
import type { QuantizedModel } from "./quantize/quantize.js";
import { roundWeightToNearest, type WeightToRound, weightSqnr, writeRounded } from "./quantize/round-weights.js";
import type { QuantizedRows } from "./quantize/weight.js";
import type { Recipe } from "./recipe/recipe.js";
import { gptqObstacle, gptqRounding } from "./round/gptq.js";
import { type SiteRecord, type WalkOptions, walk } from "./walk/walk.js";

/** A quantized network that is to be refined on samples. */
export interface RefinementTask {
  readonly engine: Engine;
  readonly recipe: Recipe;
  readonly float: Model;
  readonly types: ValueTypes;
  readonly choice: LayerChoice;
  readonly quantized: QuantizedModel;
  readonly batches: AsyncIterable<NamedFeeds>;
  /** How many batches there are. */
  readonly batchCount: number;
  /** For weights whose rounding leaves the target open. */
  readonly target: RoundingTarget;
}

export interface Refined {
  readonly model: Model;
  readonly blocks: readonly Block[];
  readonly steps: readonly { readonly name: string; readonly sites: readonly SiteRecord[] }[];
  /** Signal to quantization noise of all weights, in decibels. */
  readonly weightSqnrDb: ReadonlyMap<ValueName, number>;
}

/**
 * Rounds the weights that wait for the inputs of their layers and compensates, in one walk through the network.
 *
 * @throws RecoupError `model/not-finite`, and as `walk`
 */
export async function refine(task: RefinementTask, options: WalkOptions = {}): Promise<Refined> {
  const { engine, recipe, float, types, choice, quantized, batches } = task;
  const nodes = choice.layers.map(({ layer }) => layer.node);
  const blocks = findLayerBlocks(float.graph, types, nodes);
  const { model, waiting, rounded, records } = roundUnfit(task);
  const steps = [
    ...(waiting.length > 0 ? [gptqRounding(waiting, task.target)] : []),
    ...recipe.steps.map(({ use }) => stepNamed(use)),
  ];
  const sqnrDb = new Map([...quantized.weightSqnrDb, ...rounded]);
  if (steps.length === 0) return { model, blocks, steps: [], weightSqnrDb: sqnrDb };
  const layers = choice.layers.map(
    ({ layer }): SiteLayer => ({
      label: labelOf(layer.node),
      opType: layer.node.opType,
      output: layer.node.outputs[0],
      outputAxis: layer.outputAxis,
    }),
  );
  const context = { float: float.graph, types, layers, current: model.graph, batches: task.batchCount };
  const open: readonly OpenStep[] = steps.map((step) => step.open(context));
  const walked = await walk({ engine, float, current: model, types, blocks, batches }, open, options);
  for (const { value, step, solution } of walked.solved) {
    const weight = open[step].name === "gptq" && waiting.find(({ plans }) => plans[0].layer.node.outputs[0] === value);
    if (weight) sqnrDb.set(weight.weight, weightSqnr(weight, solution as QuantizedRows));
  }
  return {
    model: walked.model,
    blocks,
    steps: steps.map(({ name }, i) => ({
      name,
      sites: [...(name === "gptq" ? records : []), ...walked.records[i]],
    })),
    weightSqnrDb: sqnrDb,
  };
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
function roundUnfit({ float, types, quantized }: RefinementTask): Unfit {
  const names = createNameSource(quantized.model.graph);
  const shared = new Map<string, ValueName>();
  const waiting: WeightToRound[] = [];
  const rounded = new Map<ValueName, number>();
  const records: SiteRecord[] = [];
  let { graph } = quantized.model;
  for (const weight of quantized.unrounded) {
    const obstacle = gptqObstacle(float.graph, types, weight);
    if (obstacle === undefined) {
      waiting.push(weight);
      continue;
    }
    const rows = roundWeightToNearest(weight);
    graph = applyPatch(graph, writeRounded(graph, weight, rows, names, shared));
    rounded.set(weight.weight, weightSqnr(weight, rows));
    const label = labelOf(weight.plans[0].layer.node);
    records.push({ label, kind: "skipped", reason: `rounded to nearest: ${obstacle}` });
  }
  return { model: withGraph(quantized.model, graph), waiting, rounded, records };
}

function stepNamed(use: string) {
  const step = compensations.find((candidate) => candidate.name === use);
  if (!step) throw new RecoupError("recipe/invalid", "is no step", { field: use });
  return step;
}
