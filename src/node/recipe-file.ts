import { RecoupError, withPlace } from "../errors.js";
import type { Model } from "../graph/model.js";
import { refuseUnknownOutputs } from "../recipe/named-outputs.js";
import { type Preset, presets } from "../recipe/presets.js";
import type { Recipe, RecipeInput } from "../recipe/recipe.js";
import { blameFlag, leaveToTrials, resolveRecipe, type Settings } from "../recipe/settings.js";
import { readModelFile } from "./model-file.js";
import { readWholeFile } from "./whole-file.js";

export interface RecipeOptions extends Settings {
  /** A recipe, or the path of a recipe file; settings override it. */
  readonly recipe?: RecipeInput | string;
  /** Name of a preset; settings override it. */
  readonly preset?: string;
  /** Path of a model that Recoup has made: its recipe, which settings override. */
  readonly from?: string;
}

/**
 * The recipe with the settings over it, every default filled in, for a model whose outputs it may name.
 *
 * @throws RecoupError `usage/argument` for more than one recipe or a preset that there is not, `file/not-found`,
 * `file/unreadable`, `recipe/invalid` for a model without a recipe or with one that does not make it alone, and as `resolveRecipe`,
 * `refuseUnknownOutputs` and `readModelFile`
 */
export function openRecipe(options: RecipeOptions, { graph }: Model): Recipe {
  const opened = readRecipe(options);
  try {
    refuseUnknownOutputs(opened.steps, graph);
  } catch (error) {
    const { recipe, from = recipe } = options;
    throw options.steps === undefined
      ? withPlace(error, { file: typeof from === "string" ? from : undefined })
      : blameFlag(error, options);
  }
  return opened;
}

function readRecipe(options: RecipeOptions): Recipe {
  const { recipe, preset, from } = options;
  const given = Object.entries({ recipe, preset, from }).filter(([, value]) => value !== undefined);
  if (given.length > 1) {
    const [[first], [second]] = given;
    throw new RecoupError("usage/argument", `says what --${first} says too: only one of them`, {
      field: `--${second}`,
    });
  }
  if (preset !== undefined) return resolveRecipe(leaveToTrials(presetNamed(preset).recipe, options), options);
  if (from !== undefined) return resolveRecipe(leaveToTrials(recipeOfModel(from), options, from), options, from);
  if (typeof recipe !== "string") return resolveRecipe(recipe, options);
  return resolveRecipe(readRecipeFile(recipe), options, recipe);
}

function presetNamed(name: string): Preset {
  const found = presets.find((preset) => preset.name === name);
  if (found !== undefined) return found;
  const names = presets.map((preset) => preset.name).join(", ");
  throw new RecoupError("usage/argument", `is no preset: there are ${names}`, { field: "--preset" });
}

function recipeOfModel(path: string): RecipeInput {
  const { metadata } = readModelFile(path);
  const text = metadata.get("recoup.recipe");
  const compensation = metadata.get("recoup.compensation");
  const refuse = (message: string) => new RecoupError("recipe/invalid", message, { file: path });
  if (compensation === undefined) {
    if (text === undefined) throw refuse("holds no recipe: Recoup did not make it");
    return parseJson(text, path);
  }
  const how = stepsIn(compensation);
  if (text === undefined) {
    throw refuse(`holds no recipe: recoup compensate made it, which does the same again with ${how}`);
  }
  // The recipe alone would make another model than this one.
  throw refuse(`was changed by recoup compensate with ${how} after its recipe: give the model from before that`);
}

/** The flag that means the steps of a compensation, as far as its metadata are what Recoup has written. */
function stepsIn(compensation: string): string {
  try {
    const { steps } = JSON.parse(compensation) as { readonly steps?: unknown };
    if (Array.isArray(steps) && steps.every((step) => typeof step === "string")) {
      return `--steps ${steps.join(",").slice(0, longestSteps)}`;
    }
  } catch {
    // Others may write what they like into the metadata.
  }
  return "--steps";
}

/** Characters of steps in an error: in a file of somebody else's there may be any number of them. */
const longestSteps = 300;

/** Only that it is JSON; fields are checked later. */
function readRecipeFile(path: string): RecipeInput {
  return parseJson(new TextDecoder().decode(readWholeFile(path)), path);
}

function parseJson(text: string, path: string): RecipeInput {
  try {
    return JSON.parse(text) as RecipeInput;
  } catch (cause) {
    throw new RecoupError("recipe/invalid", `is not JSON: ${(cause as Error).message}`, { file: path }, { cause });
  }
}
