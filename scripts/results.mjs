/**
 * Measures every method alone and the best combination on real models, and writes docs/results.md. Needs a folder with
 * `assets/models` and their data:
 *
 *     npm run results [-- --shared FOLDER] [--cells PATTERN] [--minutes COUNT] [--state FILE]… [--threads COUNT]
 *
 * Cells that a state file holds already are not measured again, so an interrupted run goes on where it stopped. New ones go
 * to the first of the files. With `--cells` only cells whose name matches the pattern are measured, with `--minutes` none is
 * begun after that time; so several processes can share the work, each with a file of its own. The page is written from
 * what the files hold; with `--cells` or `--minutes` only if `--page` says so.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { textOfStep, version } from "recoup";
import { quantize } from "recoup/node";
import { Cells, classifiers, evaluatedOn, pointsOf } from "./measuring.mjs";

/** @typedef {{ weights: number, activations: number }} Row */
/** @typedef {{ title: string, settings: object, isFor?: (row: Row, model: string) => boolean }} Way */

/** @type {readonly Row[]} */
const bits = [
  { weights: 8, activations: 8 },
  { weights: 4, activations: 8 },
  { weights: 4, activations: 4 },
  { weights: 3, activations: 8 },
  { weights: 2, activations: 4 },
];
const perTensor = { granularity: "tensor", symmetric: true };

/** @type {readonly Way[]} */
const ways = [
  { title: "RTN, min-max", settings: { range: "minmax", weightRange: "minmax" } },
  { title: "RTN", settings: {} },
  ...["bc", "qwt", "nbc", "affine", "cat", "ocs"].map((step) => ({
    title: `RTN, ${step}`,
    settings: { steps: [step] },
  })),
  { title: "RTN, per tensor", settings: perTensor, isFor: isPerTensor },
  { title: "RTN, per tensor, ocs", settings: { ...perTensor, steps: ["ocs"] }, isFor: isPerTensor },
  { title: "GPTQ", settings: { rounding: "gptq", target: "same" } },
  { title: "GPTQ float, bc", settings: { rounding: "gptq", target: "float", steps: ["bc"] }, isFor: isPreset },
  {
    title: "preset vit",
    settings: { preset: "vit" },
    isFor: ({ activations }, model) => model === "vit_tiny" && activations === 4,
  },
  { title: "auto", settings: { steps: ["auto"] } },
];

/** Where other samples are tried, too: of the other models there are no more than 128, which every seed takes. */
const seeds = [1, 2];
const seeded = { models: ["resnet20_cifar10"], row: bits[2] };

const openNote = `What a row says is not measured is open: the same command goes on with it. [Ways of rounding](rounding.md) has more
figures for 4/8 and 4/4 bits, of all models; its first and last layer have 8/8 in every row.`;

const cells = new Cells("results");
const output = join(cells.folder, "small.onnx");
for (const model of classifiers)
  for (const row of bits) for (const way of waysOf(model, row)) await measure(model, row, way);
for (const seed of seeds) {
  for (const model of classifiers.filter(({ name }) => seeded.models.includes(name))) {
    for (const way of waysOf(model, seeded.row)) await measure(model, seeded.row, way, seed);
  }
}
if (cells.writesPage) writeFileSync("docs/results.md", page());

/** One scale for a whole weight: where outlier channels matter. @param {Row} row */
function isPerTensor({ weights, activations }) {
  return activations === 8 && weights < 8;
}

/** What the preset for convolutional networks is. @param {Row} row @param {string} model */
function isPreset({ weights }, model) {
  return weights < 8 && model !== "vit_tiny";
}

/** @param {{ name: string }} model @param {Row} row */
function waysOf({ name }, row) {
  return ways.filter(({ isFor }) => isFor === undefined || isFor(row, name));
}

/** As in published results: below 4/8 bits the first and the last layer have 8. @param {Row} row */
function edgesOf({ weights, activations }) {
  return weights < 4 || activations < 8 ? 8 : undefined;
}

/** @param {(typeof classifiers)[number]} model @param {Row} row @param {Way} way */
async function measure(model, row, { title, settings }, seed = 0) {
  await cells.once(keyOf(model, row, title, seed), async () => {
    const { threads } = cells;
    const { elapsedMs, report, cost } = await quantize(cells.modelOf(model.name), {
      data: join(cells.assets, model.calibration),
      output,
      ...row,
      edges: edgesOf(row),
      ...settings,
      seed,
      threads,
    });
    const { measure: _, ...own } = elapsedMs;
    const found = await cells.evaluate(model, output);
    const seconds = Object.values(own).reduce((sum, ms) => sum + ms, 0) / 1000;
    return { ...found, sizeRatio: cost.sizeRatio, latency: cost.latency.ratio, seconds, taken: takenOf(report) };
  });
}

/** What the trials of a run left of its recipe. @param {any} report */
function takenOf({ recipe, trials }) {
  if (trials.length === 0) return undefined;
  const [{ weight, activation }] = recipe.formats;
  const rounding = weight.rounding.use === "rtn" ? "RTN" : `GPTQ ${weight.rounding.target}`;
  const range = activation !== "float" && activation.range !== "mse" ? [activation.range] : [];
  return [rounding, ...range, ...recipe.steps.map(textOfStep)].join(", ");
}

/** @param {string} title @param {any} found */
function nameOf(title, { taken }) {
  if (title === "auto") return `auto: ${taken}`;
  return isDropped(title, taken) ? `${title} (dropped)` : title;
}

/** Where a step was dropped, the figures are those of what was left. @param {string} title @param {string | undefined} taken */
function isDropped(title, taken) {
  const steps = title.split(", ").slice(1);
  return taken !== undefined && steps.some((step) => /^(qwt|nbc|affine|ocs)$/.test(step) && !taken.includes(step));
}

/** @param {string} name @param {any} found */
function lineOf(name, found) {
  const figures = [
    found.top1.toFixed(2),
    pointsOf(found),
    found.agreement.toFixed(1),
    found.kl.toPrecision(3),
    found.sizeRatio.toFixed(3),
    found.latency.toFixed(2),
    found.seconds.toFixed(0),
  ];
  return `| ${name} | ${figures.join(" | ")} |`;
}

function page() {
  const lines = classifiers.flatMap((model) => [
    `| **${model.name}** | | | | | | | |`,
    ...bits.flatMap((row) => {
      const label = `${row.weights}/${row.activations}`;
      const all = waysOf(model, row).map(({ title }) => ({ title, found: cells.state[keyOf(model, row, title, 0)] }));
      const measured = all.filter(({ found }) => found !== undefined);
      const open = all.filter(({ found }) => found === undefined).map(({ title }) => title);
      const rest = measured.length === 0 ? "everything" : open.join("; ");
      return [
        ...measured.map(({ title, found }) => lineOf(`${label} ${nameOf(title, found)}`, found)),
        ...(open.length === 0 ? [] : [`| ${label} *not measured: ${rest}* | | | | | | | |`]),
      ];
    }),
  ]);
  const others = classifiers
    .filter(({ name }) => seeded.models.includes(name))
    .flatMap((model) =>
      waysOf(model, seeded.row).flatMap(({ title }) => {
        const found = [0, ...seeds].map((seed) => cells.state[keyOf(model, seeded.row, title, seed)]);
        if (found.slice(1).every((cell) => cell === undefined)) return [];
        const figures = found.map((cell) =>
          cell === undefined
            ? "not measured"
            : `${cell.kl.toPrecision(3)} / ${cell.top1Difference.difference.toFixed(2)}${isDropped(title, cell.taken) ? " (dropped)" : ""}`,
        );
        return [`| ${model.name} ${title} | ${figures.join(" | ")} |`];
      }),
    );
  const isOpen = lines.some((line) => line.includes("*not measured"));
  const notes = isOpen ? [evaluatedOn, openNote] : [evaluatedOn];
  const tables = others.length === 0 ? [] : [seedTable(others)];
  return `# Results

Written by \`npm run results\` on ${new Date().toISOString().slice(0, 10)} with Recoup ${version}, each row on ${cells.machines()}.
128 calibration samples, seed 0, onnxruntime at its default options. **Below 4/8 bits the first and the last layer have 8/8**, as in
published results. RTN is rounding to nearest with the default ranges. The methods: [rounding and ranges](methods/quantization.md),
[GPTQ](methods/gptq.md) ("GPTQ": on the layers' own quantized inputs, as published; "float": towards the float network),
[bc](methods/bias-compensation.md), [qwt](methods/qwt.md), [nbc](methods/nbc.md), [affine](methods/affine.md), [cat](methods/cat.md),
[ocs](methods/ocs.md). Scales of weights are per channel but where a row says "per tensor" (symmetric there). \`auto\` is what
\`--steps auto\` chose, on [calibration samples only](recipes.md#trials); "dropped": the trials found the network better without the
step, so the row is that of the rest.

Points: top-1 less that of the float model on the same samples, with the 95 % interval of the paired difference.
Agreement: equal largest outputs, in percent. KL: mean divergence of the softmax outputs from the float model's, in nats.
Size and latency: by those of the float file; latency is the median of one sample at a time, the two models in turns, each in
a process of its own. Seconds: the whole of \`recoup quantize\` on a shared machine, trials included, without its last measurement.
${notes.join("\n\n")}

| bits w/a, method | top-1 | points | agreement | KL | size | latency | seconds |
|---|---|---|---|---|---|---|---|
${[lines.join("\n"), ...tables].join("\n\n")}
`;
}

/** @param {readonly string[]} lines */
function seedTable(lines) {
  const { weights, activations } = seeded.row;
  const names = [0, ...seeds].map((seed) => `seed ${seed}`);
  return `Other calibration samples, at ${weights}/${activations} bits, KL / points (of the other models there are no more than the 128 of seed 0):

| | ${names.join(" | ")} |
|---|${names.map(() => "---").join("|")}|
${lines.join("\n")}`;
}

/** @param {(typeof classifiers)[number]} model @param {Row} row @param {string} title @param {number} seed */
function keyOf(model, row, title, seed) {
  return `${model.name} ${row.weights}/${row.activations} ${title}${seed === 0 ? "" : ` seed ${seed}`}`;
}
