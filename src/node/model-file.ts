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
import { basename, dirname, join, sep } from "node:path";
import { RecoupError, withPlace } from "../errors.js";
import type { Model } from "../graph/model.js";
import type { ExternalReader } from "../onnx/external-data.js";
import { encodeModel, readModel } from "../onnx/model.js";
import { type Chunk, totalSize } from "../onnx/wire.js";

export interface WriteOptions {
  /** For a file that nobody needs after a crash: not forced to the disk. */
  readonly isTemporary?: boolean;
}

/**
 * Models above this size in bytes get a second file, `NAME.data`, for their tensors: protobuf ends at 2 GiB, and some
 * readers hold a message twice.
 */
const inlineLimit = 1.5e9;

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
 * Writes a model whole or not at all: into a temporary file beside the target, which then takes the target's name.
 *
 * @returns size in bytes of what was written
 * @throws RecoupError `file/unwritable`
 */
export function writeModelFile(path: string, model: Model, options: WriteOptions = {}): number {
  let encoded = encodeModel(model);
  if (totalSize(encoded.chunks) > inlineLimit)
    encoded = encodeModel(model, { externalLocation: `${basename(path)}.data` });
  if (encoded.externalChunks.length > 0) writeChunks(`${path}.data`, encoded.externalChunks, options);
  writeChunks(path, encoded.chunks, options);
  return totalSize(encoded.chunks) + totalSize(encoded.externalChunks);
}

/** `readFileSync` refuses 2 GiB, and one `readSync` returns less: read in pieces. */
export function readWholeFile(path: string): Uint8Array {
  const file = openForReading(path);
  try {
    const stats = fstatSync(file);
    if (!stats.isFile()) throw new RecoupError("file/unreadable", "is not a file", { file: path });
    return readRange(file, 0, stats.size);
  } finally {
    closeSync(file);
  }
}

function externalFilesBeside(modelPath: string): ExternalReader {
  return {
    read(location, offset, sizeBytes, place) {
      const folder = realpathSync(dirname(modelPath));
      const path = join(folder, location);
      const refuse = (message: string, cause?: unknown) =>
        new RecoupError("onnx/external-data", message, { file: modelPath, field: place }, { cause });
      let file: number;
      try {
        if (!realpathSync(path).startsWith(folder + sep))
          throw refuse(`stands outside the model's folder: ${location}`);
        file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      } catch (error) {
        throw error instanceof RecoupError ? error : refuse(`stands in ${location}, which cannot be read`, error);
      }
      try {
        const stats = fstatSync(file);
        if (!stats.isFile() || offset + sizeBytes > stats.size) {
          throw refuse(`needs bytes ${offset} to ${offset + sizeBytes} of ${location}, which has ${stats.size}`);
        }
        return readRange(file, offset, sizeBytes);
      } finally {
        closeSync(file);
      }
    },
  };
}

function openForReading(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const [code, message] = isMissing
      ? (["file/not-found", "does not exist"] as const)
      : (["file/unreadable", `cannot be read (${(cause as NodeJS.ErrnoException).code})`] as const);
    throw new RecoupError(code, message, { file: path }, { cause });
  }
}

function readRange(file: number, offset: number, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let position = 0;
  while (position < sizeBytes) {
    const count = readSync(file, bytes, position, Math.min(sizeBytes - position, 2 ** 30), offset + position);
    if (count === 0) throw new RecoupError("file/unreadable", `ended ${sizeBytes - position} bytes early`);
    position += count;
  }
  return bytes;
}

function writeChunks(path: string, chunks: readonly Chunk[], options: WriteOptions): void {
  const temporary = `${path}.${process.pid}.tmp`;
  let file: number | undefined;
  try {
    file = openSync(temporary, "wx");
    for (const chunk of chunks) {
      const bytes = chunk.bytes();
      let position = 0;
      while (position < bytes.byteLength)
        position += writeSync(file, bytes, position, Math.min(bytes.byteLength - position, 2 ** 30));
    }
    if (!options.isTemporary) fsyncSync(file);
    closeSync(file);
    file = undefined;
    renameSync(temporary, path);
  } catch (cause) {
    if (file !== undefined) closeSync(file);
    rmSync(temporary, { force: true });
    if (cause instanceof RecoupError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code;
    throw new RecoupError("file/unwritable", `cannot be written (${code})`, { file: path }, { cause });
  }
}
