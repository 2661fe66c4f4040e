import { mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { CheckpointStore } from "../checkpoint/store.js";
import { RecoupError } from "../errors.js";
import { isFolder } from "./file-stats.js";
import { readWholeFile, temporaryName, writeWholeFile } from "./whole-file.js";

const pieceFile = /^([a-z0-9-]+)\.recoup$/;

/**
 * A checkpoint as a folder with a file a piece. The folder is made when the first is written. Files of other names are left
 * alone, and so is a folder that holds some.
 */
export function checkpointFolder(folder: string): CheckpointStore {
  const pathOf = (piece: string) => join(folder, `${piece}.recoup`);
  return {
    name: folder,
    nameOf: pathOf,
    list: async () => namesIn(folder).flatMap((name) => pieceFile.exec(name)?.[1] ?? []),
    read: async (piece) => readWholeFile(pathOf(piece)),
    async write(piece, bytes) {
      if (!isFolder(folder)) change(folder, () => mkdirSync(folder));
      writeWholeFile(pathOf(piece), bytes);
    },
    async clear() {
      if (!isFolder(folder)) return;
      const own = namesIn(folder).filter((name) => pieceFile.test(name) || temporaryName.test(name));
      for (const name of own) change(folder, () => rmSync(join(folder, name)));
      if (namesIn(folder).length === 0) change(folder, () => rmdirSync(folder));
    },
  };
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") return [];
    throw new RecoupError("file/unreadable", `cannot be read (${code})`, { file: folder }, { cause });
  }
}

function change(folder: string, work: () => void): void {
  try {
    work();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new RecoupError("file/unwritable", `cannot be written (${code})`, { file: folder }, { cause });
  }
}
