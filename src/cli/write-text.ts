import { writeFileSync } from "node:fs";
import { RecoupError } from "../errors.js";

/** @throws RecoupError `file/unwritable` */
export function writeText(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new RecoupError("file/unwritable", `cannot be written (${code})`, { file: path }, { cause });
  }
}
