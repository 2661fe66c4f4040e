/**
 * Everything that can go wrong in a way a caller can expect, and who has to act on it:
 * `input` (exit code 2): the file, flag or recipe must be changed; `failed` (exit code 1): the work itself broke off.
 */
const errorKinds = {
  "usage/argument": "input",
  "recipe/invalid": "input",
  "file/not-found": "input",
  "file/unreadable": "input",
  "file/unwritable": "input",
  "onnx/not-a-model": "input",
  "onnx/malformed": "input",
  "onnx/limit": "input",
  "onnx/unsupported": "input",
  "onnx/external-data": "input",
  "onnx/tensor": "input",
  "graph/invalid": "input",
  "model/not-finite": "input",
  "data/empty": "input",
  "data/unreadable": "input",
  "data/label": "input",
  "data/mismatch": "input",
  "data/not-finite": "input",
  "preprocess/invalid": "input",
  "quantize/nothing-to-do": "input",
  "compensate/mismatch": "input",
  "compensate/nothing-to-do": "input",
  "statistics/malformed": "input",
  "statistics/mismatch": "input",
  "checkpoint/malformed": "input",
  "checkpoint/mismatch": "input",
  "export/unfaithful": "failed",
  "engine/unavailable": "failed",
  "engine/refused": "input",
  "engine/run": "failed",
  "engine/crashed": "failed",
  "engine/cancelled": "failed",
  "patch/invalid": "failed",
} as const;

/** A stable name of what is wrong, `folder/what-is-wrong`. Callers match on this, never on the message. */
export type ErrorCode = keyof typeof errorKinds;

/** Where it is wrong: as much of it as is known. */
export interface Place {
  readonly file?: string;
  /** The field of the file, the flag, or the value or node of the graph. */
  readonly field?: string;
  /** Byte position in the file. */
  readonly offset?: number;
}

/** The one error class that callers can expect; any other exception is a defect of Recoup. */
export class RecoupError extends Error {
  override readonly name = "RecoupError";
  readonly code: ErrorCode;
  readonly place: Place;

  constructor(code: ErrorCode, message: string, place: Place = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.place = place;
  }

  /** 2 where the caller must change the input, 1 where the work itself broke off. */
  get exitCode(): 1 | 2 {
    return errorKinds[this.code] === "input" ? 2 : 1;
  }

  /** The error as one line: `model.onnx: fc.weight: needs 4096 bytes, 4000 are left [onnx/tensor]`. */
  toLine(): string {
    const field = this.place.field;
    const isLong = field !== undefined && field.length > longestField;
    const shown = isLong ? `${field.slice(0, longestField)}…` : field;
    // A flag that was given nothing names no file: as it stands, the line would begin with what is wrong.
    const file = this.place.file === "" ? '""' : this.place.file;
    const parts = [file, shown, this.message].filter((part) => part !== undefined && part !== "");
    return printable(`${parts.join(": ")} [${this.code}]`);
  }
}

/** Characters of a name in an error: in a broken file one may be megabytes long. */
const longestField = 300;

/** The same error with a place filled in where it has none: for a caller that knows the file when the callee did not. */
export function withPlace(error: unknown, place: Place): unknown {
  if (!(error instanceof RecoupError)) return error;
  return new RecoupError(error.code, error.message, { ...place, ...error.place }, { cause: error });
}

/** Names in models are other people's bytes: control characters must not reach a terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "�");
}
