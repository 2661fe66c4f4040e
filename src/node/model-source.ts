import { createHash } from "node:crypto";
import { existsSync, lstatSync, type Stats, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Samples } from "../data/samples.js";
import { RecoupError } from "../errors.js";
import type { Value } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { filesOfGraph } from "../onnx/references.js";
import { openDataset } from "./dataset.js";
import { readModelFile, readWholeFile } from "./model-file.js";

/** A model of a file, and what reports say of the file. */
export interface ModelSource {
  readonly path: string;
  readonly model: Model;
  /** The model file and the files beside it that hold its tensors. */
  readonly files: readonly string[];
  /** Size of all of them. */
  readonly bytes: number;
}

/** @throws RecoupError as `readModelFile`, and `onnx/external-data` where a file of tensors is missing */
export function openModel(path: string): ModelSource {
  const model = readModelFile(path);
  const files = [path, ...[...filesOfGraph(model.graph)].map((location) => join(dirname(path), location))];
  const sizes = files.map((file) => {
    const stats = statsOf(statSync, file);
    if (stats !== undefined) return stats.size;
    throw new RecoupError("onnx/external-data", `keeps tensors in ${file}, which cannot be read`, { file: path });
  });
  return { path, model, files, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

/** SHA-256 of a file, hexadecimal. */
export function sha256OfFile(path: string): string {
  const bytes = readWholeFile(path);
  const hash = createHash("sha256");
  // One update takes less than 2 GiB.
  for (let start = 0; start < bytes.byteLength; start += 2 ** 30) hash.update(bytes.subarray(start, start + 2 ** 30));
  return hash.digest("hex");
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
  if (statsOf(statSync, path)?.isDirectory()) throw new RecoupError("file/unwritable", "is a folder", { file: path });
  for (const written of [path, `${path}.data`]) {
    if (inputs.some((input) => wouldReplace(written, input))) {
      throw new RecoupError("file/unwritable", "is the input too: the original would be lost", { file: written });
    }
  }
}

/** Also where the two are spelled differently. A link in the output's place is replaced, not what it leads to. */
function wouldReplace(output: string, input: string): boolean {
  if (resolve(output) === resolve(input)) return true;
  const [there, original] = [statsOf(lstatSync, output), statsOf(statSync, input)];
  return there !== undefined && there.ino === original?.ino && there.dev === original.dev;
}

function statsOf(read: (path: string) => Stats, path: string): Stats | undefined {
  try {
    return read(path);
  } catch {
    return undefined;
  }
}
