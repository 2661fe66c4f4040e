import { withPlace } from "../errors.js";
import { type Inspection, inspectModel } from "../inspection.js";
import { resolveRecipe, type Settings } from "../recipe/settings.js";
import { openModel } from "./model-source.js";
import { createRuntimeEngine } from "./runtime-engine.js";

export interface FileInspection extends Inspection {
  readonly path: string;
  readonly bytes: number;
}

/**
 * Says what a model is and what quantizing it would do.
 *
 * @throws RecoupError for a file that is no model or that the runtime does not load
 */
export async function inspect(path: string, settings: Settings = {}): Promise<FileInspection> {
  const source = openModel(path);
  const engine = createRuntimeEngine();
  try {
    return {
      path,
      bytes: source.bytes,
      ...(await inspectModel(source.model, resolveRecipe(undefined, settings), engine)),
    };
  } catch (error) {
    throw withPlace(error, { file: path });
  } finally {
    await engine.close();
  }
}
