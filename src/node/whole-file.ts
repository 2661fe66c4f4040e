import { constants as bufferLimits } from "node:buffer";
import { randomUUID } from "node:crypto";
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { RecoupError, withPlace } from "../errors.js";
import { bytesOfChunk, type Chunk, chunkOf, totalSize } from "../onnx/wire.js";
import { isFolder, statsOfEntry } from "./file-stats.js";

export interface WholeFileOptions {
  /** For a file that nobody needs after a crash: not forced to the disk. */
  readonly isTemporary?: boolean;
}

/** Small chunks are gathered to this many bytes before they are written. */
const gatheredBytes = 2 ** 20;

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
export const readFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

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

export interface NewFile {
  readonly path: string;
  readonly chunks: readonly Chunk[];
}

/** Names of files that are not whole yet: what a process that was killed leaves behind. */
export const temporaryName = /^\.recoup-\d+-[0-9a-f]{8}\.tmp$/;

/**
 * Writes files whole or not at all. All are written before the first takes its name: chunks may come from the very files that
 * are replaced.
 *
 * @throws RecoupError `file/unwritable`, and what a chunk throws
 */
export function writeFiles(files: readonly NewFile[], options: WholeFileOptions): void {
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

function writeNewFile(path: string, chunks: readonly Chunk[], options: WholeFileOptions): void {
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
