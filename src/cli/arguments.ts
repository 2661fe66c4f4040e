import { RecoupError } from "../errors.js";
import type { Shard } from "../shards/shard.js";

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

const decimalUnits = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 } as const;

/**
 * Parses a size for a flag: `256MB`, `1.5 GB`, or a number of bytes. Units are decimal.
 *
 * @returns bytes
 * @throws RecoupError `usage/argument`
 */
export function byteSize(flag: string): (text: string) => number {
  return (text) => {
    const [, digits, unit = "b"] = /^(\d{1,15}(?:\.\d{1,9})?) ?(b|kb|mb|gb|tb)?$/.exec(text.toLowerCase()) ?? [];
    const bytes = Math.round(Number(digits) * decimalUnits[unit as keyof typeof decimalUnits]);
    if (!(bytes <= 1e15)) {
      const message = `is a size such as 256MB or 2GB, or a number of bytes, not ${JSON.stringify(text)}`;
      throw new RecoupError("usage/argument", message, { field: flag });
    }
    return bytes;
  };
}

/**
 * Parses a shard: `2/8` is the second of eight.
 *
 * @throws RecoupError `usage/argument`
 */
export function shardOf(text: string): Shard {
  const [, index, count] = /^(\d{1,9})\/(\d{1,9})$/.exec(text) ?? [];
  const shard = { index: Number(index), count: Number(count) };
  if (shard.index >= 1 && shard.index <= shard.count) return shard;
  const message = `is a part like 2/8, the second of eight, not ${JSON.stringify(text)}`;
  throw new RecoupError("usage/argument", message, { field: "--shard" });
}

/** `8` or `none`. */
export function bitsOrNone(text: string): number | "none" {
  if (text === "none" || /^[2-8]$/.test(text)) return text === "none" ? "none" : Number(text);
  const message = `is a whole number of bits from 2 to 8, or none, not ${JSON.stringify(text)}`;
  throw new RecoupError("usage/argument", message, { field: "--activations" });
}

export const edgeBits = wholeNumber("--edges", 2, 8);

/** More threads than any processor has cores take minutes to start and can end the machine. */
export const threadCount = wholeNumber("--threads", 1, 256);

/** `bc,cat` as a list. */
export function commaList(text: string): readonly string[] {
  return text.split(",").map((part) => part.trim());
}
