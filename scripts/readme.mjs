/**
 * Writes the table of README.md from the example's own measurement:
 *
 *     node examples/digits/run.mjs --json FILE && node scripts/readme.mjs FILE
 */
import { readFileSync, writeFileSync } from "node:fs";

const [path] = process.argv.slice(2);
const { samples, rows } = JSON.parse(readFileSync(path, "utf8"));
const names = { cnn: "residual CNN", vit: "vision transformer" };
const percent = (/** @type {number} */ value) => `${value.toFixed(2)} %`;
const lines = rows.map(
  (/** @type {Record<string, any>} */ row) =>
    `| ${names[/** @type {keyof typeof names} */ (row.model)]} | ${row.weights}/${row.activations} | ${percent(row.float)} | ${percent(row.quantized)} | **${percent(row.compensated)}** | ${row.sizeRatio.toFixed(2)} × |`,
);
const table = [
  "| digits | bits (weights/activations) | float | rounded | compensated | size |",
  "|---|---|---|---|---|---|",
  ...lines,
  "",
  `Top-1 on ${rows[0].n} digits, ${samples} others for calibration, bias compensation; ${new Date().toISOString().slice(0, 10)}.`,
].join("\n");
const before = readFileSync("README.md", "utf8");
const marked = /(<!-- digits:[^>]*-->)[\s\S]*(<!-- \/digits -->)/;
if (!marked.test(before)) throw new Error("README.md has no place for the table");
writeFileSync("README.md", before.replace(marked, `$1\n${table}\n$2`));
