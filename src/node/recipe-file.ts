import { RecoupError } from "../errors.js";
import type { RecipeInput } from "../recipe/recipe.js";
import { readWholeFile } from "./model-file.js";

/** @throws RecoupError `file/not-found`, `recipe/invalid` for a file that is no JSON; fields are checked later */
export function readRecipeFile(path: string): RecipeInput {
  const text = new TextDecoder().decode(readWholeFile(path));
  try {
    return JSON.parse(text) as RecipeInput;
  } catch (cause) {
    throw new RecoupError("recipe/invalid", `is not JSON: ${(cause as Error).message}`, { file: path }, { cause });
  }
}
