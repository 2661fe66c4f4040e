import { feedsSource } from "../src/data/array-source.js";
import { samplesFrom } from "../src/data/sample-source.js";
import { type Engine, type Feeds, withSession } from "../src/engine/engine.js";
import { fedInputs } from "../src/graph/fed-inputs.js";
import type { Model } from "../src/graph/model.js";
import { type QuantizeOutcome, quantizeModel } from "../src/pipeline.js";
import { parseRecipe, type RecipeInput } from "../src/recipe/recipe.js";
import type { TestModel } from "./models.js";

/** Quantizes a model, calibrated on some samples: its own feeds where none are given. */
export async function quantizeTestModel(
  engine: Engine,
  { model, feeds }: TestModel,
  recipe: RecipeInput = {},
  calibration: readonly Feeds[] = [feeds],
): Promise<QuantizeOutcome> {
  const samples = samplesFrom(feedsSource(calibration, "test"), fedInputs(model.graph));
  return quantizeModel({ model, recipe: parseRecipe(recipe), samples, engine });
}

/** Runs a model at the runtime's default options, as users do. */
export async function runShipped(engine: Engine, model: Model, feeds: Feeds): Promise<Feeds> {
  return withSession(engine, model, { mode: "shipped" }, async (session) => (await session.run(feeds)).outputs);
}
