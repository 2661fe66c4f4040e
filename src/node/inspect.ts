import { withPlace } from "../errors.js";
import { type Inspection, inspectModel } from "../inspection.js";
import { openModel } from "./model-source.js";
import { openRecipe, type RecipeOptions } from "./recipe-file.js";
import { createRuntimeEngine } from "./runtime-engine.js";

export interface InspectOptions extends RecipeOptions {
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

export interface FileInspection extends Inspection {
  readonly path: string;
  readonly bytes: number;
}

/**
 * Says what a model is and what quantizing it with the same options would do.
 *
 * @throws RecoupError for a file that is no model or that the runtime does not load, and for options that are wrong
 */
export async function inspect(path: string, options: InspectOptions = {}): Promise<FileInspection> {
  const source = openModel(path);
  const recipe = openRecipe(options, source.model);
  const engine = createRuntimeEngine({ threads: options.threads, signal: options.signal });
  try {
    return { path, bytes: source.bytes, ...(await inspectModel(source.model, recipe, engine)) };
  } catch (error) {
    throw withPlace(error, { file: path });
  } finally {
    await engine.close();
  }
}
