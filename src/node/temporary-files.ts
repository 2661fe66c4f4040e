import { tmpdir } from "node:os";
import { RecoupError } from "../errors.js";

/** What is thrown where the system's folder for temporary files takes none. */
export function temporaryFilesUnavailable(cause: unknown): RecoupError {
  const code = (cause as NodeJS.ErrnoException).code;
  const message = `temporary files cannot be kept there (${code}): set TMPDIR`;
  return new RecoupError("engine/unavailable", message, { file: tmpdir() }, { cause });
}
