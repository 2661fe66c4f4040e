/**
 * The bundled example: makes both digit models small at bit widths where rounding hurts, with and without bias
 * compensation, and measures all of them on 2,000 digits that nothing else has seen.
 *
 *     node examples/digits/run.mjs [--json FILE]
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { evaluate, quantize } from "recoup/node";
import { writeArrays } from "./data.mjs";

const models = /** @type {const} */ (["cnn", "vit"]);
const widths = [
  { weights: 4, activations: 4 },
  { weights: 2, activations: 8 },
  { weights: 2, activations: 4 },
];
const samples = 256;

const { values } = parseArgs({ options: { json: { type: "string" } } });
const folder = mkdtempSync(join(tmpdir(), "recoup-digits-"));
const start = performance.now();
try {
  const rows = await measureAll(folder);
  print(rows);
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ samples, rows }, undefined, 2)}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** @param {string} folder for the data and the models made on the way */
async function measureAll(folder) {
  const data = writeArrays(folder);
  const rows = [];
  for (const name of models) {
    const source = fileURLToPath(new URL(`models/${name}/model.onnx`, import.meta.url));
    const task = /** @type {const} */ ({
      task: "classification",
      data: data.evaluationImages,
      labels: data.evaluationLabels,
      preprocess: join(dirname(source), "preprocessor_config.json"),
    });
    const { n, metrics } = await evaluate(source, task);
    for (const { weights, activations } of widths) {
      const accuracy = [];
      let sizeRatio = 0;
      for (const steps of [[], ["bc"]]) {
        const output = join(folder, "small.onnx");
        const options = { data: data.calibrationImages, output, weights, activations, steps, samples };
        sizeRatio = (await quantize(source, options)).cost.sizeRatio;
        accuracy.push((await evaluate(output, task)).metrics.top1);
      }
      const [quantized, compensated] = accuracy;
      rows.push({ model: name, weights, activations, n, float: metrics.top1, quantized, compensated, sizeRatio });
    }
  }
  return rows;
}

/** @param {Awaited<ReturnType<typeof measureAll>>} rows */
function print(rows) {
  const head = ["model", "bits (weights/activations)", "float", "quantized", "compensated", "size"];
  const percent = (/** @type {number} */ value) => `${value.toFixed(2)} %`;
  const cells = rows.map((row) => [
    row.model,
    `${row.weights}/${row.activations}`,
    percent(row.float),
    percent(row.quantized),
    percent(row.compensated),
    `${row.sizeRatio.toFixed(2)} ×`,
  ]);
  const widest = head.map((_, column) => Math.max(...[head, ...cells].map((row) => row[column].length)));
  for (const row of [head, ...cells]) console.log(row.map((cell, column) => cell.padEnd(widest[column])).join("  "));
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  console.log(`\nTop-1 on ${rows[0].n} digits; calibrated on ${samples} others, without labels; ${seconds} s.`);
}
