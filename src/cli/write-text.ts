import { writeWholeFile } from "../node/whole-file.js";

/** @throws RecoupError `file/unwritable` */
export function writeText(path: string, text: string): void {
  writeWholeFile(path, new TextEncoder().encode(text));
}
