import { type Calibration, observeSamples, planCalibration } from "../src/calibration.js";
import { feedsSource } from "../src/data/array-source.js";
import { samplesFrom } from "../src/data/sample-source.js";
import type { Samples } from "../src/data/samples.js";
import { inBatches, type NamedFeeds } from "../src/engine/batch.js";
import type { Engine, Feeds } from "../src/engine/engine.js";
import { planQuantization } from "../src/planning.js";
import { estimateRanges } from "../src/quantize/estimate-ranges.js";
import { quantize } from "../src/quantize/quantize.js";
import { parseRecipe, type RecipeInput } from "../src/recipe/recipe.js";
import { type Refined, type RefinementTask, refine } from "../src/refinement.js";
import type { TestModel } from "./models.js";

/** A network that is quantized but for what needs the inputs of layers. */
export interface PreparedRefinement {
  readonly task: Omit<RefinementTask, "batches" | "batchCount">;
  readonly calibration: Calibration;
  readonly samples: Samples;
  /** The samples as they are run. */
  readonly batches: readonly NamedFeeds[];
  /** Refines on the samples. */
  readonly refine: () => Promise<Refined>;
}

export async function prepareRefinement(
  engine: Engine,
  { model }: TestModel,
  recipe: RecipeInput,
  feeds: readonly Feeds[],
): Promise<PreparedRefinement> {
  const samples = samplesFrom(feedsSource(feeds, "test"), model.graph.inputs);
  const given = { model, recipe: parseRecipe(recipe), samples, engine };
  const plan = await planQuantization(given);
  const calibration = await planCalibration(given, plan);
  const { sites, indices, batchSize } = calibration;
  const observation = await observeSamples(calibration, indices, () => {});
  const ranges = estimateRanges(plan.float.graph, sites, observation.result());
  const quantized = await quantize(plan.float, plan.choice, sites, ranges, given.recipe.storage);
  const task = { ...plan, engine, recipe: given.recipe, quantized };
  const batches: NamedFeeds[] = [];
  for await (const batch of inBatches(samples.read(indices), batchSize)) batches.push(batch);
  const open = async () =>
    refine({ ...task, batchCount: batches.length, batches: { [Symbol.asyncIterator]: () => fromList(batches) } });
  return { task, calibration, samples, batches, refine: open };
}

export async function* fromList<Item>(items: readonly Item[]): AsyncGenerator<Item> {
  yield* items;
}
