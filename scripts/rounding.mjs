/**
 * Measures ways of rounding weights on real models and writes docs/rounding.md. Needs a folder with `assets/models` and
 * their data:
 *
 *     npm run rounding [-- --shared FOLDER] [--cells PATTERN] [--state FILE]… [--threads COUNT]
 *
 * Cells that a state file holds already are not measured again, so an interrupted run goes on where it stopped. New ones go
 * to the first of the files. Cells whose name does not match the pattern are left out, and then no page is written: so
 * several processes can share the work, each with a file of its own, and a last run with all the files writes the page.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { version } from "recoup";
import { evaluate, quantize } from "recoup/node";
import { Cells, classifiers, evaluatedOn, pointsOf } from "./measuring.mjs";

const decoder = { name: "stories260K", calibration: "tinystories/calib.jsonl", data: "tinystories/eval.jsonl" };

const roundings = [
  { title: "RTN", rounding: "rtn", steps: [] },
  { title: "RTN, bc", rounding: "rtn", steps: ["bc"] },
  { title: "GPTQ same", rounding: { use: "gptq", target: "same" }, steps: [] },
  { title: "GPTQ unquantized", rounding: { use: "gptq", target: "unquantized" }, steps: [] },
  { title: "GPTQ float", rounding: { use: "gptq", target: "float" }, steps: [] },
  { title: "GPTQ float, bc", rounding: { use: "gptq", target: "float" }, steps: ["bc"] },
];
const activations = [8, 4];
const decoderRoundings = roundings.filter(({ title }) => ["RTN", "GPTQ same", "GPTQ float"].includes(title));
const decoderBits = [8, 4, 3, 2];
const granularities = ["channel", "group:32"];

const cells = new Cells("rounding");
const { assets, threads, state } = cells;
const output = join(cells.folder, "small.onnx");
for (const model of classifiers) {
  for (const bits of activations) for (const way of roundings) await measureClassifier(model, bits, way);
}
for (const bits of decoderBits) {
  for (const granularity of granularities) {
    for (const way of decoderRoundings) await measureDecoder(bits, granularity, way);
  }
}
if (!cells.isPart) writeFileSync("docs/rounding.md", page());

/** @param {(typeof classifiers)[number]} model @param {number} bits @param {(typeof roundings)[number]} way */
async function measureClassifier(model, bits, { title, rounding, steps }) {
  await cells.once(`${model.name} 4/${bits} ${title}`, async () => {
    const recipe = { formats: [{ weight: { bits: 4, rounding }, activation: { bits } }], edges: 8, steps };
    const data = join(assets, model.calibration);
    await quantize(cells.modelOf(model.name), { data, output, recipe: /** @type {any} */ (recipe), threads });
    return cells.evaluate(model, output);
  });
}

/** @param {number} bits @param {string} granularity @param {(typeof roundings)[number]} way */
async function measureDecoder(bits, granularity, { title, rounding, steps }) {
  await cells.once(`${decoder.name} ${bits} ${granularity} ${title}`, async () => {
    const source = cells.modelOf(decoder.name);
    const formats = [{ weight: { bits, granularity, rounding }, activation: "float" }];
    await quantize(source, {
      data: join(assets, decoder.calibration),
      output,
      recipe: /** @type {any} */ ({ formats, steps }),
      threads,
    });
    const { metrics, reference } = await evaluate(output, {
      task: "perplexity",
      data: join(assets, decoder.data),
      reference: source,
      threads,
    });
    return { perplexity: metrics.perplexity, ...reference };
  });
}

function page() {
  const lines = classifiers.flatMap((model) => [
    `| **${model.name}** | | | | |`,
    ...activations.flatMap((bits) =>
      roundings.map(({ title }) => {
        const found = state[`${model.name} 4/${bits} ${title}`];
        const figures = [found.top1.toFixed(2), pointsOf(found), found.agreement.toFixed(1), found.kl.toPrecision(3)];
        return `| 4/${bits} ${title} | ${figures.join(" | ")} |`;
      }),
    ),
  ]);
  const decoderCells = decoderBits.flatMap((bits) =>
    granularities.map((granularity) => {
      const found = decoderRoundings.map(({ title }) => state[`${decoder.name} ${bits} ${granularity} ${title}`]);
      const figures = found.map(({ perplexity, kl }) => `${perplexity.toFixed(3)} / ${kl.toPrecision(3)}`);
      return `| ${bits}, ${granularity} | ${figures.join(" | ")} |`;
    }),
  );
  return `# Ways of rounding

Written by \`npm run rounding\` on ${new Date().toISOString().slice(0, 10)} with Recoup ${version}, each cell on
${cells.machines()}. 128 calibration samples, seed 0; the first
and the last layer have 8/8 bits, as in published results; everything else as in the default recipe. What the targets are:
[GPTQ](methods/gptq.md); \`bc\` is [bias compensation](methods/bias-compensation.md).

Points: top-1 less that of the float model on the same samples, with the 95 % interval of the paired difference.
Agreement: equal largest outputs, in percent. KL: mean divergence of the softmax outputs from the float model's, in nats.
${evaluatedOn}

| bits w/a, rounding | top-1 | points | agreement | KL |
|---|---|---|---|---|
${lines.join("\n")}

Perplexity of ${decoder.name} with weights of so many bits, activations in float, on 240 stories (float: ${floatPerplexity()}), and the
mean divergence of its next tokens from those of the float model:

| weights | ${decoderRoundings.map(({ title }) => title).join(" | ")} |
|---|${decoderRoundings.map(() => "---").join("|")}|
${decoderCells.join("\n")}
`;
}

function floatPerplexity() {
  return state[
    `${decoder.name} ${decoderBits[0]} ${granularities[0]} ${decoderRoundings[0].title}`
  ].metrics.perplexity.toFixed(3);
}
