import { createHash } from "node:crypto";
import { accessSync, constants, lstatSync, realpathSync } from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import type { Samples } from "../data/samples.js";
import { RecoupError } from "../errors.js";
import { fedInputs } from "../graph/fed-inputs.js";
import type { Model } from "../graph/model.js";
import { filesOfGraph } from "../onnx/references.js";
import { openDataset } from "./dataset.js";
import { isFolder, statsOf, statsOfEntry } from "./file-stats.js";
import { defaultInlineLimit, readModelFile, tensorFiles, type WriteOptions } from "./model-file.js";
import { readWholeFile } from "./whole-file.js";

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
    const stats = statsOf(file);
    if (stats !== undefined) return stats.size;
    throw new RecoupError("onnx/external-data", `keeps tensors in ${file}, which cannot be read`, { file: path });
  });
  return { path, model, files, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

/** Where what is made of a model keeps its large tensors: where the model does, unless somebody says otherwise. */
export function placeOfTensors({ files }: Pick<ModelSource, "files">, externalData = files.length > 1): WriteOptions {
  return { inlineLimit: externalData ? 0 : defaultInlineLimit };
}

/** SHA-256 of a file, hexadecimal. */
export function sha256OfFile(path: string): string {
  const bytes = readWholeFile(path);
  const hash = createHash("sha256");
  // One update takes less than 2 GiB.
  for (let start = 0; start < bytes.byteLength; start += 2 ** 30) hash.update(bytes.subarray(start, start + 2 ** 30));
  return hash.digest("hex");
}

/** Data for a model, prepared as the configuration beside the model says where none is given. */
export async function openDataFor(
  source: ModelSource,
  data: string,
  options: { readonly preprocess?: string; readonly labels?: string } = {},
): Promise<Samples> {
  return openDataset(data, fedInputs(source.model.graph), { ...options, modelFolder: dirname(source.path) });
}

/**
 * Refuses an output before any work is done.
 *
 * @param inputs what is read, of which nothing may be replaced; nothing need be there
 * @throws RecoupError `file/unwritable` for a place that no file can have, a folder in its place, or one of the inputs
 */
export function checkOutput(path: string, inputs: readonly string[]): void {
  const refuse = (message: string) => new RecoupError("file/unwritable", message, { file: path });
  const full = resolve(path);
  const folder = dirname(full);
  if (statsOf(folder) === undefined) throw refuse(`the folder ${folder} does not exist`);
  if (!isFolder(folder)) throw refuse(`${folder} is no folder`);
  if (isFolder(full)) throw refuse("is a folder");
  // A device or a pipe would be replaced by a file.
  if (statsOf(full)?.isFile() === false) throw refuse("is no regular file");
  if (path.endsWith("/") || path.endsWith(sep)) throw refuse("is the name of a folder");
  // What stands there may look like a file, as /dev/stdout does where the output goes into one.
  if (deviceFolders.test(placeOf(full))) throw refuse("stands among the system's devices");
  const problem = problemOf(full);
  if (problem !== undefined) throw refuse(`cannot be written (${problem})`);
  refuseInput(path, inputs);
}

/**
 * Like `checkOutput`, for a model: it may need a second file for its tensors.
 *
 * @throws RecoupError `file/unwritable`
 */
export function checkModelOutput(path: string, inputs: readonly string[]): void {
  checkOutput(path, inputs);
  for (const written of filesWritten(path)) refuseInput(written, inputs);
}

function refuseInput(path: string, inputs: readonly string[]): void {
  if (inputs.some((input) => wouldReplace(path, input))) {
    throw new RecoupError("file/unwritable", "is an input too: the original would be lost", { file: path });
  }
}

/**
 * Refuses files to write of which one would replace another.
 *
 * @throws RecoupError `file/unwritable`
 */
export function checkDistinct(outputs: readonly string[]): void {
  for (const [i, path] of outputs.entries()) {
    if (outputs.slice(0, i).some((other) => wouldReplace(path, other))) {
      throw new RecoupError("file/unwritable", "is to be written twice", { file: path });
    }
  }
}

/** A model and the files of which one may hold its tensors. */
export function filesWritten(model: string): readonly string[] {
  return [model, ...tensorFiles(model)];
}

/** Folders whose entries are no files; memory that is used as a disk is the exception. */
const deviceFolders = /^\/(dev(?!\/shm\/)|proc|sys)\//;

/** Why no file can stand there: a name that is too long, a folder that nobody may write into. */
function problemOf(path: string): string | undefined {
  return codeOf(() => lstatSync(path)) ?? codeOf(() => accessSync(dirname(path), constants.W_OK));
}

/** What the system says; nothing where it has no objection, or knows no such file. */
function codeOf(look: () => void): string | undefined {
  try {
    look();
    return undefined;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code === "ENOENT" ? undefined : code;
  }
}

/** Also where the two are spelled differently. A link in the output's place is replaced, not what it leads to. */
function wouldReplace(output: string, input: string): boolean {
  if (placeOf(output) === placeOf(input)) return true;
  const [there, original] = [statsOfEntry(output), statsOf(input)];
  return there !== undefined && there.ino === original?.ino && there.dev === original.dev;
}

/** A path without links among its folders, for a file that need not be there. */
function placeOf(path: string): string {
  const full = resolve(path);
  try {
    return join(realpathSync(dirname(full)), basename(full));
  } catch {
    return full;
  }
}
