import { RecoupError } from "../errors.js";
import type { Recipe, RecipeInput } from "../recipe/recipe.js";
import { resolveRecipe, type Settings } from "../recipe/settings.js";
import { readWholeFile } from "./model-file.js";

export interface RecipeOptions extends Settings {
  /** A recipe, or the path of a recipe file; settings override it. */
  readonly recipe?: RecipeInput | string;
}

/**
 * The recipe with the settings over it, every default filled in.
 *
 * @throws RecoupError `file/not-found`, `file/unreadable`, and as `resolveRecipe`
 */
export function openRecipe(options: RecipeOptions): Recipe {
  const { recipe } = options;
  if (typeof recipe !== "string") return resolveRecipe(recipe, options);
  return resolveRecipe(readRecipeFile(recipe), options, recipe);
}

/** Only that it is JSON; fields are checked later. */
function readRecipeFile(path: string): RecipeInput {
  const text = new TextDecoder().decode(readWholeFile(path));
  try {
    return JSON.parse(text) as RecipeInput;
  } catch (cause) {
    throw new RecoupError("recipe/invalid", `is not JSON: ${(cause as Error).message}`, { file: path }, { cause });
  }
}
