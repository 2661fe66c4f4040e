import { randomUUID } from "node:crypto";
import { closeSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Tensor } from "../tensor/tensor.js";
import type { TensorStore } from "../tensor/tensor-store.js";
import { temporaryFilesUnavailable } from "./temporary-files.js";
import { readRange, writeRange } from "./whole-file.js";

/** Our choice: the codes of a network of a hundred million weights never leave memory. */
const mostMemoryBytes = 64e6;

/** Smaller ones cost more as files than they take. */
const smallestStored = 4096;

/**
 * Keeps tensors in memory while there is room, then in a temporary file. The file loses its name as soon as it is open, so
 * that nothing is left behind however the process ends.
 */
export class ScratchTensors implements TensorStore {
  readonly #mostBytes: number;
  #usedBytes = 0;
  /** Open as long as one of the tensors is in use: they hold the store. */
  #file: number | undefined;
  #end = 0;

  constructor(mostBytes = mostMemoryBytes) {
    this.#mostBytes = mostBytes;
  }

  /** @throws RecoupError `engine/unavailable` where temporary files cannot be kept */
  keep(tensor: Tensor): Tensor {
    const { type, shape, sizeBytes } = tensor;
    if (sizeBytes < smallestStored || this.#usedBytes + sizeBytes <= this.#mostBytes) {
      this.#usedBytes += sizeBytes;
      return tensor;
    }
    const start = this.#append(tensor.bytes());
    return { type, shape, sizeBytes, bytes: () => readRange(this.#open(), start, sizeBytes) };
  }

  #append(bytes: Uint8Array): number {
    const start = this.#end;
    try {
      writeRange(this.#open(), start, bytes);
    } catch (cause) {
      throw temporaryFilesUnavailable(cause);
    }
    this.#end += bytes.byteLength;
    return start;
  }

  #open(): number {
    if (this.#file === undefined) {
      this.#file = openUnnamed();
      unused.register(this, this.#file);
    }
    return this.#file;
  }
}

const unused = new FinalizationRegistry<number>((file) => closeSync(file));

function openUnnamed(): number {
  const path = join(tmpdir(), `recoup-${randomUUID()}.tmp`);
  const file = openSync(path, "wx+", 0o600);
  rmSync(path);
  return file;
}
