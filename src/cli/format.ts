import { printable } from "../errors.js";

/** `4.95 MB`: decimal units, three digits. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB"];
  const exponent = Math.min(Math.max(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), 0), units.length - 1);
  return `${threeDigits(bytes / 1000 ** exponent)} ${units[exponent]}`;
}

export function formatMs(ms: number): string {
  return ms >= 1000 ? `${threeDigits(ms / 1000)} s` : `${threeDigits(ms)} ms`;
}

/** `0.266 ×` */
export function formatRatio(ratio: number): string {
  return `${threeDigits(ratio)} ×`;
}

export function formatPercent(value: number): string {
  return `${value.toFixed(2)} %`;
}

/**
 * A result as JSON for machines. JSON has no infinity: a ratio without error (`sqnrDb`) is null, any other number that is
 * not finite is its name: "-Infinity", "NaN".
 */
export function formatJson(data: unknown): string {
  const plain = (key: string, value: unknown) => {
    if (typeof value !== "number" || Number.isFinite(value)) return value;
    return /Db$/.test(key) && value > 0 ? null : String(value);
  };
  return `${JSON.stringify(data, plain, 2)}\n`;
}

export function formatNats(kl: number): string {
  return `${kl < 0.01 ? kl.toPrecision(2) : kl.toFixed(3)} nats`;
}

/** Columns aligned by spaces, cut at `limit` rows with a word about the rest. */
export function formatTable(rows: readonly (readonly string[])[], limit = Number.POSITIVE_INFINITY): string {
  const shown = rows.slice(0, limit).map((row) => row.map(printable));
  const widths = (shown[0] ?? []).map((_, column) => Math.max(...shown.map((row) => row[column].length)));
  const lines = shown.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column])).join("  ")}`.trimEnd());
  if (rows.length > limit) lines.push(`  … and ${rows.length - limit} more (--json has all)`);
  return lines.join("\n");
}

function threeDigits(value: number): string {
  return value >= 100 || value === 0 ? value.toFixed(0) : value.toPrecision(3);
}
