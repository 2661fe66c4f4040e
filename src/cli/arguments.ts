import { RecoupError } from "../errors.js";

/**
 * Parses a whole number for a flag.
 *
 * @throws RecoupError `usage/argument`
 */
export function wholeNumber(flag: string, smallest: number, largest = 1e15): (text: string) => number {
  return (text) => {
    const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= smallest && value <= largest)) {
      const range = largest < 1e15 ? `from ${smallest} to ${largest}` : `from ${smallest}`;
      throw new RecoupError("usage/argument", `is a whole number ${range}, not ${JSON.stringify(text)}`, {
        field: flag,
      });
    }
    return value;
  };
}

/** `8` or `none`. */
export function bitsOrNone(text: string): number | "none" {
  if (text === "none" || /^[2-8]$/.test(text)) return text === "none" ? "none" : Number(text);
  const message = `is a whole number of bits from 2 to 8, or none, not ${JSON.stringify(text)}`;
  throw new RecoupError("usage/argument", message, { field: "--activations" });
}

/** More threads than any processor has cores take minutes to start and can end the machine. */
export const threadCount = wholeNumber("--threads", 1, 256);

/** `bc,cat` as a list. */
export function commaList(text: string): readonly string[] {
  return text.split(",").map((part) => part.trim());
}
