import { closeSync, constants, fstatSync, openSync, realpathSync, rmSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { type Place, RecoupError, withPlace } from "../errors.js";
import type { Model } from "../graph/model.js";
import type { ExternalReader } from "../onnx/external-data.js";
import { type EncodedModel, encodeModel, readModel } from "../onnx/model.js";
import { filesOfGraph } from "../onnx/references.js";
import { isFileTensor } from "../onnx/tensor.js";
import { totalSize } from "../onnx/wire.js";
import { statsOfEntry } from "./file-stats.js";
import { readFlags, readRange, readWholeFile, type WholeFileOptions, writeFiles } from "./whole-file.js";

export interface WriteOptions extends WholeFileOptions {
  /**
   * Tensors of models that have more bytes of them go to a second file, `NAME.data`. Default 1.5 GB: protobuf ends at
   * 2 GiB, and some readers hold a message twice. A model with initializers that still stand in a file beside the one it was
   * read from keeps a second file whatever its size.
   */
  readonly inlineLimit?: number;
  /** Leaves tensors that stand in files of this folder there: a runtime that is told of the folder finds them. */
  readonly inPlace?: string;
}

export const defaultInlineLimit = 1.5e9;

/**
 * Reads a model file; tensors in files beside it are read when they are needed.
 *
 * @throws RecoupError as `readModel`, and `file/not-found`, `file/unreadable`
 */
export function readModelFile(path: string): Model {
  try {
    return readModel(readWholeFile(path), externalFilesBeside(path));
  } catch (error) {
    throw withPlace(error, { file: path });
  }
}

/**
 * Writes a model whole or not at all: into temporary files beside the targets, which then take the targets' names.
 * Tensors that stood in files beside the model it was read from are written along.
 *
 * @returns size in bytes of what was written
 * @throws RecoupError `file/unwritable`, `onnx/limit` for a model that no file can hold, and what reading the model's
 * tensors throws
 */
export function writeModelFile(path: string, model: Model, options: WriteOptions = {}): number {
  const replaced = options.isTemporary ? [] : tensorFilesOf(path);
  const dataPath = tensorFiles(path).find((file) => !replaced.includes(file)) ?? `${path}.data`;
  const { chunks, externalChunks } = encodeFile(basename(dataPath), model, options);
  const external = externalChunks.length > 0 ? [{ path: dataPath, chunks: externalChunks }] : [];
  writeFiles([...external, { path, chunks }], options);
  for (const file of replaced) rmSync(file, { force: true });
  return totalSize(chunks) + totalSize(externalChunks);
}

/**
 * The files that may hold the tensors of a model. There are two, so that a model and its tensors replace others together: the
 * tensors take the name that the model which is there does not use, and belong to nobody until the new model takes its own.
 */
export function tensorFiles(path: string): readonly string[] {
  return [`${path}.data`, `${path}.2.data`];
}

/** Those of them that a model which is there reads. */
function tensorFilesOf(path: string): readonly string[] {
  if (statsOfEntry(path) === undefined) return [];
  try {
    const used = filesOfGraph(readModelFile(path).graph);
    return tensorFiles(path).filter((file) => used.has(basename(file)));
  } catch {
    // Something else stands there.
    return [];
  }
}

/**
 * Size in bytes of what `writeModelFile` would write.
 *
 * @throws RecoupError `onnx/limit` for a model that no file can hold
 */
export function sizeOfModelFile(model: Model, options: WriteOptions = {}): number {
  const { chunks, externalChunks } = encodeFile("model.onnx.data", model, options);
  return totalSize(chunks) + totalSize(externalChunks);
}

function encodeFile(dataName: string, model: Model, options: WriteOptions): EncodedModel {
  const { inPlace, isTemporary, inlineLimit } = options;
  if (inPlace !== undefined) return encodeModel(model, { inPlace });
  const tensors = [...model.graph.initializers.values()];
  const tensorBytes = tensors.reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  const isBeside = !isTemporary && tensors.some((tensor) => isFileTensor(tensor) && tensor.externalFiles.length > 0);
  const isLarge = tensorBytes > (inlineLimit ?? (isBeside ? 0 : defaultInlineLimit));
  return encodeModel(model, isLarge ? { externalLocation: dataName } : {});
}

function externalFilesBeside(modelPath: string): ExternalReader {
  const folder = resolve(dirname(modelPath));
  return {
    folder,
    read: (location, offset, sizeBytes, place) =>
      withExternalFile(folder, location, offset + sizeBytes, { file: modelPath, field: place }, (file) =>
        readRange(file, offset, sizeBytes),
      ),
  };
}

/**
 * Makes sure that a runtime which opens a file of tensors itself opens nothing that would not be read here.
 *
 * @param end how far into the file the tensors reach
 * @param field the one that reaches there, for errors
 * @throws RecoupError `onnx/external-data`
 */
export function checkExternalFile(folder: string, location: string, end: number, field: string): void {
  withExternalFile(folder, location, end, { field }, () => {});
}

/**
 * A model names its files itself, and it may be anybody's: only a plain file in the model's own folder is read, reached
 * without a link and known by no other name.
 */
function withExternalFile<Result>(
  folder: string,
  location: string,
  end: number,
  where: Place,
  use: (file: number) => Result,
): Result {
  const refuse = (message: string, cause?: unknown) =>
    new RecoupError("onnx/external-data", `stands in ${location}, ${message}`, where, { cause });
  let file: number | undefined;
  try {
    const path = join(realpathSync(folder), location);
    if (realpathSync(path) !== path) throw refuse("which is a link or stands behind one: copy the file");
    file = openSync(path, readFlags | (constants.O_NOFOLLOW ?? 0));
    const stats = fstatSync(file);
    if (!stats.isFile()) throw refuse("which is no file");
    if (stats.nlink > 1) throw refuse(`which has ${stats.nlink} names (hard links): copy the file`);
    if (end > stats.size) throw refuse(`up to byte ${end}, but the file has ${stats.size}`);
    return use(file);
  } catch (error) {
    throw error instanceof RecoupError ? error : refuse("which cannot be read", error);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
