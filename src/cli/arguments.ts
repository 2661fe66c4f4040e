import { RecoupError } from "../errors.js";

/**
 * Parses a whole number for a flag.
 *
 * @throws RecoupError `usage/argument`
 */
export function wholeNumber(flag: string, smallest: number): (text: string) => number {
  return (text) => {
    const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= smallest)) {
      throw new RecoupError("usage/argument", `is a whole number from ${smallest}, not ${JSON.stringify(text)}`, {
        field: flag,
      });
    }
    return value;
  };
}

/** `8` or `none`. */
export function bitsOrNone(text: string): number | "none" {
  return text === "none" ? "none" : wholeNumber("--activations", 0)(text);
}

/** `bc,cat` as a list. */
export function commaList(text: string): readonly string[] {
  return text.split(",").map((part) => part.trim());
}
