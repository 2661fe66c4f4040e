/**
 * Measures every method alone and the best combination on real models, and writes docs/results.md. Needs a folder with
 * `assets/models` and their data:
 *
 *     npm run results [-- --shared FOLDER] [--cells PATTERN] [--state FILE]… [--threads COUNT]
 *
 * Cells that a state file holds already are not measured again, so an interrupted run goes on where it stopped. New ones go
 * to the first of the files. Cells whose name does not match the pattern are left out, and then no page is written: so
 * several processes can share the work, each with a file of its own, and a last run with all the files writes the page.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { version } from "recoup";
import { compare, quantize } from "recoup/node";
import { Cells, classifiers, evaluatedOn, pointsOf } from "./measuring.mjs";

const bits = [
  { weights: 8, activations: 8 },
  { weights: 4, activations: 8 },
  { weights: 4, activations: 4 },
  { weights: 3, activations: 8 },
  { weights: 2, activations: 4 },
];
const minmax = { range: "minmax", weightRange: "minmax" };

/** @type {readonly { title: string, settings: object }[]} */
const ways = [
  { title: "RTN, min-max", settings: minmax },
  { title: "RTN", settings: {} },
  { title: "GPTQ", settings: { rounding: "gptq" } },
  ...["bc", "qwt", "nbc", "affine", "cat", "ocs"].map((step) => ({
    title: `RTN, ${step}`,
    settings: { steps: [step] },
  })),
  { title: "auto", settings: { steps: ["auto"] } },
];

const cells = new Cells("results");
const output = join(cells.folder, "small.onnx");
for (const model of classifiers) for (const row of bits) for (const way of ways) await measure(model, row, way);
if (!cells.isPart) writeFileSync("docs/results.md", page());

/** @param {(typeof classifiers)[number]} model @param {(typeof bits)[number]} row @param {(typeof ways)[number]} way */
async function measure(model, row, { title, settings }) {
  await cells.once(keyOf(model, row, title), async () => {
    const source = cells.modelOf(model.name);
    const data = join(cells.assets, model.calibration);
    // As in published results: below 4/8 bits the first and the last layer have 8.
    const edges = row.weights < 4 || row.activations < 8 ? 8 : undefined;
    const { threads } = cells;
    const { elapsedMs, report } = await quantize(source, { data, output, ...row, edges, ...settings, threads });
    const { measure: _, ...own } = elapsedMs;
    const found = await cells.evaluate(model, output);
    const { sizeRatio, latency } = await compare(source, output, { data, limit: 8, threads });
    const seconds = Object.values(own).reduce((sum, ms) => sum + ms, 0) / 1000;
    const taken = report.trials.find((trial) => trial.taken)?.name;
    const steps = report.recipe.steps.map(({ use }) => use);
    return { ...found, sizeRatio, latency: latency.ratio, seconds, taken, steps };
  });
}

function page() {
  const lines = classifiers.flatMap((model) => [
    `| **${model.name}** | | | | | | | |`,
    ...bits.flatMap((row) =>
      ways.flatMap(({ title }) => {
        const found = cells.state[keyOf(model, row, title)];
        if (found === undefined) return [];
        const name = title === "auto" ? `auto: ${[found.taken, ...found.steps].join(", ")}` : title;
        const figures = [
          found.top1.toFixed(2),
          pointsOf(found),
          found.agreement.toFixed(1),
          found.kl.toPrecision(3),
          found.sizeRatio.toFixed(3),
          found.latency.toFixed(2),
          found.seconds.toFixed(0),
        ];
        return [`| ${row.weights}/${row.activations} ${name} | ${figures.join(" | ")} |`];
      }),
    ),
  ]);
  return `# Results

Written by \`npm run results\` on ${new Date().toISOString().slice(0, 10)} with Recoup ${version}, each row on ${cells.machines()}.
128 calibration samples, seed 0, onnxruntime at its default options. Below 4/8 bits the first and the last layer have 8/8, as in
published results. The methods: [rounding and ranges](methods/quantization.md), [GPTQ](methods/gptq.md),
[bc](methods/bias-compensation.md), [cat](methods/cat.md); \`auto\` is what \`--steps auto\` chose, on calibration samples only.

Points: top-1 less that of the float model on the same samples, with the 95 % interval of the paired difference.
Agreement: equal largest outputs, in percent. KL: mean divergence of the softmax outputs from the float model's, in nats.
Size and latency: by those of the float file; latency is the median of one sample at a time, the two models in turns, each in
a process of its own. Seconds: the whole of \`recoup quantize\` without its last measurement.
${evaluatedOn}

| bits w/a, method | top-1 | points | agreement | KL | size | latency | seconds |
|---|---|---|---|---|---|---|---|
${lines.join("\n")}
`;
}

/** @param {(typeof classifiers)[number]} model @param {(typeof bits)[number]} row @param {string} title */
function keyOf(model, row, title) {
  return `${model.name} ${row.weights}/${row.activations} ${title}`;
}
