import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Samples } from "../data/samples.js";
import { RecoupError } from "../errors.js";
import type { Value } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { openDataset } from "./dataset.js";
import { readModelFile } from "./model-file.js";

/** A model of a file, and what reports say of the file. */
export interface ModelSource {
  readonly path: string;
  readonly model: Model;
  /** Size of the model file and of the file of its tensors beside it. */
  readonly bytes: number;
}

/** @throws RecoupError as `readModelFile` */
export function openModel(path: string): ModelSource {
  return { path, model: readModelFile(path), bytes: fileSize(path) };
}

/** Size in bytes of a model file, with the `.data` file that Recoup puts beside large ones. */
export function fileSize(path: string): number {
  const external = `${path}.data`;
  return statSync(path).size + (existsSync(external) ? statSync(external).size : 0);
}

/** SHA-256 of a file, hexadecimal. */
export function sha256OfFile(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

/** What a caller has to feed: initializers that are listed as inputs have values already. */
export function fedInputs(model: Model): readonly Value[] {
  return model.graph.inputs.filter((input) => !model.graph.initializers.has(input.name));
}

/** Data for a model, prepared as the configuration beside the model says where none is given. */
export async function openDataFor(
  source: ModelSource,
  data: string,
  options: { readonly preprocess?: string; readonly labels?: string } = {},
): Promise<Samples> {
  return openDataset(data, fedInputs(source.model), { ...options, modelFolder: dirname(source.path) });
}

/**
 * Refuses an output before any work is done.
 *
 * @throws RecoupError `file/unwritable` for a missing folder, a folder in its place, or one of the inputs
 */
export function checkOutput(path: string, inputs: readonly string[]): void {
  const folder = dirname(resolve(path));
  if (!existsSync(folder))
    throw new RecoupError("file/unwritable", `the folder ${folder} does not exist`, { file: path });
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    throw new RecoupError("file/unwritable", "is a folder", { file: path });
  }
  if (inputs.some((input) => resolve(input) === resolve(path))) {
    throw new RecoupError("file/unwritable", "is the input too: the original would be lost", { file: path });
  }
}
