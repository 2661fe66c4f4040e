import { closeSync, existsSync, openSync, readdirSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { RecoupError } from "../errors.js";

const extension = ".tensor";

/** One call reads or writes less than 2 GiB, whatever it is asked for. */
const mostBytesAtOnce = 2 ** 30;

type Move = (file: number, bytes: Uint8Array, offset: number, length: number, position: null) => number;

/** Tensors in files: the bytes as they are, a file each, named by number. */
export class TensorFiles {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** @throws RecoupError `engine/unavailable` where the file cannot be written, of which nothing is left then */
  write(id: number, bytes: Uint8Array): void {
    const path = this.#pathOf(id);
    try {
      this.#move(path, "w", bytes, writeSync);
    } catch (cause) {
      rmSync(path, { force: true });
      const advice = "set TMPDIR to another folder or raise --memory";
      throw this.#failure("held tensors that do not fit in memory cannot be written", advice, cause);
    }
  }

  /** @throws RecoupError `engine/unavailable` where the file is gone */
  read(id: number, sizeBytes: number): Uint8Array {
    const bytes = new Uint8Array(sizeBytes);
    try {
      this.#move(this.#pathOf(id), "r", bytes, readSync);
    } catch (cause) {
      throw this.#failure("a held tensor cannot be read back", "set TMPDIR to a folder that nobody clears", cause);
    }
    return bytes;
  }

  remove(id: number): void {
    rmSync(this.#pathOf(id), { force: true });
  }

  #pathOf(id: number): string {
    return join(this.#folder, `${id}${extension}`);
  }

  #move(path: string, flags: "r" | "w", bytes: Uint8Array, move: Move): void {
    const file = openSync(path, flags);
    try {
      for (let position = 0; position < bytes.byteLength; ) {
        const count = move(file, bytes, position, Math.min(bytes.byteLength - position, mostBytesAtOnce), null);
        if (count === 0) throw new Error("the file ended early");
        position += count;
      }
    } finally {
      closeSync(file);
    }
  }

  #failure(what: string, advice: string, cause: unknown): RecoupError {
    const reason = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
    return new RecoupError("engine/unavailable", `${what} (${reason}): ${advice}`, { file: this.#folder }, { cause });
  }
}

/** Removes the tensors of a process that could not do so itself. */
export function removeTensorFiles(folder: string): void {
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    if (name.endsWith(extension)) rmSync(join(folder, name), { force: true });
  }
}
