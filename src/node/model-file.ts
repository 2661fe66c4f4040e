import { constants as bufferLimits } from "node:buffer";
import { randomUUID } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { type Place, RecoupError, withPlace } from "../errors.js";
import type { Model } from "../graph/model.js";
import type { ExternalReader } from "../onnx/external-data.js";
import { type EncodedModel, encodeModel, readModel } from "../onnx/model.js";
import { filesOfGraph } from "../onnx/references.js";
import { isFileTensor } from "../onnx/tensor.js";
import { bytesOfChunk, type Chunk, chunkOf, totalSize } from "../onnx/wire.js";
import { isFolder, statsOfEntry } from "./file-stats.js";

export interface WriteOptions {
  /** For a file that nobody needs after a crash: not forced to the disk. */
  readonly isTemporary?: boolean;
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

/** Small chunks are gathered to this many bytes before they are written. */
const gatheredBytes = 2 ** 20;

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

/**
 * `readFileSync` refuses 2 GiB, and one `readSync` returns less: read in pieces.
 *
 * @throws RecoupError `file/not-found`, `file/unreadable`
 */
export function readWholeFile(path: string): Uint8Array {
  let file: number | undefined;
  try {
    file = openSync(path, readFlags);
    const stats = fstatSync(file);
    if (!stats.isFile()) throw new RecoupError("file/unreadable", "is not a file", { file: path });
    if (stats.size > bufferLimits.MAX_LENGTH) {
      throw new RecoupError("file/unreadable", `is too large (${stats.size} bytes)`, { file: path });
    }
    return readRange(file, 0, stats.size);
  } catch (cause) {
    if (cause instanceof RecoupError) throw withPlace(cause, { file: path });
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === "ENOENT") throw new RecoupError("file/not-found", "does not exist", { file: path }, { cause });
    throw new RecoupError("file/unreadable", `cannot be read (${code})`, { file: path }, { cause });
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Opening a named pipe would wait for its writer; the other flag is missing on Windows. */
const readFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

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

/** @throws RecoupError `file/unreadable` where the file ends early */
export function readRange(file: number, offset: number, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let position = 0;
  while (position < sizeBytes) {
    const count = readSync(file, bytes, position, Math.min(sizeBytes - position, 2 ** 30), offset + position);
    if (count === 0) throw new RecoupError("file/unreadable", `ended ${sizeBytes - position} bytes early`);
    position += count;
  }
  return bytes;
}

/**
 * Writes a file whole or not at all.
 *
 * @throws RecoupError `file/unwritable`
 */
export function writeWholeFile(path: string, bytes: Uint8Array): void {
  writeFiles([{ path, chunks: [chunkOf(bytes)] }], {});
}

interface NewFile {
  readonly path: string;
  readonly chunks: readonly Chunk[];
}

/** Names of files that are not whole yet: what a process that was killed leaves behind. */
export const temporaryName = /^\.recoup-\d+-[0-9a-f]{8}\.tmp$/;

/** All are written before the first takes its name: chunks may come from the very files that are replaced. */
function writeFiles(files: readonly NewFile[], options: WriteOptions): void {
  const suffix = `${randomUUID().slice(0, 8)}.tmp`;
  // A name of its own, so that it is not too long where the target's is not.
  const temporaries = files.map(({ path }, i) => join(dirname(path), `.recoup-${i}-${suffix}`));
  for (const { path } of files) refuseFolder(path);
  try {
    for (const [i, { chunks }] of files.entries()) writeNewFile(temporaries[i], chunks, options);
    for (const [i, { path }] of files.entries()) {
      renameSync(temporaries[i], path);
      if (!options.isTemporary) keepNames(dirname(path));
    }
  } catch (cause) {
    for (const temporary of temporaries) if (statsOfEntry(temporary)) rmSync(temporary);
    const code = (cause as NodeJS.ErrnoException).code;
    if (cause instanceof RecoupError || code === undefined) throw cause;
    const file = files[files.length - 1].path;
    throw new RecoupError("file/unwritable", `cannot be written (${code})`, { file }, { cause });
  }
}

/** A name is on the disk when its folder is: the tensors' before that of the model which reads them. */
function keepNames(folder: string): void {
  let file: number | undefined;
  try {
    file = openSync(folder, constants.O_RDONLY);
    fsyncSync(file);
  } catch {
    // Windows opens no folders, and keeps their entries itself.
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Nothing takes the name of a folder, and by then the file of the tensors would have taken its own. */
function refuseFolder(path: string): void {
  if (isFolder(path)) {
    throw new RecoupError("file/unwritable", "is a folder", { file: path });
  }
}

function writeNewFile(path: string, chunks: readonly Chunk[], options: WriteOptions): void {
  const file = openSync(path, "wx");
  try {
    writeChunks(file, chunks);
    if (!options.isTemporary) fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function writeChunks(file: number, chunks: readonly Chunk[]): void {
  const gathered = new Uint8Array(Math.min(gatheredBytes, totalSize(chunks)));
  let [used, position] = [0, 0];
  const write = (bytes: Uint8Array) => {
    writeRange(file, position, bytes);
    position += bytes.byteLength;
  };
  const flush = () => {
    write(gathered.subarray(0, used));
    used = 0;
  };
  for (const chunk of chunks) {
    const bytes = bytesOfChunk(chunk);
    if (used + bytes.byteLength > gathered.byteLength) flush();
    if (bytes.byteLength > gathered.byteLength) write(bytes);
    else {
      gathered.set(bytes, used);
      used += bytes.byteLength;
    }
  }
  flush();
}

/** One call writes less than 2 GiB, whatever it is asked for. */
export function writeRange(file: number, offset: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength; ) {
    done += writeSync(file, bytes, done, Math.min(bytes.byteLength - done, 2 ** 30), offset + done);
  }
}
