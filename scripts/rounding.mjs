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
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { version } from "recoup";
import { evaluate, quantize, readModelFile } from "recoup/node";

const { values } = parseArgs({
  options: {
    shared: { type: "string", default: join("..", "shared") },
    cells: { type: "string" },
    state: { type: "string", multiple: true, default: [join("dist", "rounding.json")] },
    threads: { type: "string" },
  },
});
const assets = join(values.shared, "assets");
const isWanted = (/** @type {string} */ cell) => values.cells === undefined || new RegExp(values.cells).test(cell);
const threads = values.threads === undefined ? availableParallelism() : Number(values.threads);
const machine = `${threads} ${threads === 1 ? "core" : "cores"} of ${cpus()[0].model.trim()}`;

const imagenet = { calibration: "imagenet/calib", data: "imagenet/val" };
const vww = { calibration: "vww/calib_images.npy", data: "vww/val_images.npy", labels: "vww/val_labels.npy" };
const cifar = {
  calibration: "cifar10/calib_images.npy",
  data: "cifar10/val_images.npy",
  labels: "cifar10/val_labels.npy",
};

/** @type {readonly { name: string, calibration: string, data: string, labels?: string }[]} */
const classifiers = [
  { name: "resnet20_cifar10", ...cifar },
  { name: "vww_mobilenet_v1_025", ...vww },
  { name: "squeezenet1_1", ...imagenet },
  { name: "vit_tiny", ...imagenet },
  { name: "googlenet", ...imagenet },
];
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

/** @type {Record<string, any>} */
const state = Object.assign({}, ...values.state.map((file) => (existsSync(file) ? readState(file) : {})));
const folder = mkdtempSync(join(tmpdir(), "recoup-rounding-"));
const output = join(folder, "small.onnx");
try {
  for (const model of classifiers) {
    for (const bits of activations) for (const way of roundings) await measureClassifier(model, bits, way);
  }
  for (const bits of decoderBits) {
    for (const granularity of granularities) {
      for (const way of decoderRoundings) await measureDecoder(bits, granularity, way);
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (values.cells === undefined) writeFileSync("docs/rounding.md", page());

/** @param {(typeof classifiers)[number]} model @param {number} bits @param {(typeof roundings)[number]} way */
async function measureClassifier(model, bits, { title, rounding, steps }) {
  await once(`${model.name} 4/${bits} ${title}`, async () => {
    const source = join(assets, "models", model.name, "model.onnx");
    const format = (/** @type {number} */ weights, /** @type {number} */ activation) => ({
      weight: { bits: weights, rounding },
      activation: { bits: activation },
    });
    const formats = [{ match: edgesOf(source), ...format(8, 8) }, format(4, bits)];
    await quantize(source, {
      data: join(assets, model.calibration),
      output,
      recipe: /** @type {any} */ ({ formats, steps }),
      threads,
    });
    const { n, metrics, reference } = await evaluate(output, {
      task: "classification",
      data: join(assets, model.data),
      labels: model.labels && join(assets, model.labels),
      reference: source,
      threads,
    });
    return { n, top1: metrics.top1, ...reference };
  });
}

/** @param {number} bits @param {string} granularity @param {(typeof roundings)[number]} way */
async function measureDecoder(bits, granularity, { title, rounding, steps }) {
  await once(`${decoder.name} ${bits} ${granularity} ${title}`, async () => {
    const source = join(assets, "models", decoder.name, "model.onnx");
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

/** @param {string} key @param {() => Promise<unknown>} work */
async function once(key, work) {
  if (state[key] || !isWanted(key)) return;
  state[key] = { ...(await work()), machine };
  const [file] = values.state;
  const earlier = existsSync(file) ? readState(file) : {};
  writeFileSync(file, JSON.stringify({ ...earlier, [key]: state[key] }, undefined, 2));
  console.log(key, state[key].kl ?? state[key].perplexity);
}

/** @param {string} file @returns {Record<string, any>} */
function readState(file) {
  return JSON.parse(readFileSync(file, "utf8"));
}

/** The first and the last layer, which published results leave at 8 bits. @param {string} path */
function edgesOf(path) {
  const { graph } = readModelFile(path);
  const layers = graph.nodes.filter(
    ({ opType, inputs }) =>
      ["Conv", "Gemm", "MatMul"].includes(opType) && inputs.some((input) => graph.initializers.has(input)),
  );
  return [layers[0].name, layers[layers.length - 1].name];
}

function page() {
  const cells = classifiers.flatMap((model) => [
    `| **${model.name}** | | | | |`,
    ...activations.flatMap((bits) =>
      roundings.map(({ title }) => {
        const found = state[`${model.name} 4/${bits} ${title}`];
        const { difference, confidence95 } = found.top1Difference;
        const points = `${signed(difference)} [${signed(confidence95[0])}, ${signed(confidence95[1])}]`;
        const figures = [found.top1.toFixed(2), points, found.agreement.toFixed(1), found.kl.toPrecision(3)];
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
${[...new Set(Object.values(state).map((cell) => cell.machine))].sort().join(" or ")}. 128 calibration samples, seed 0; the first
and the last layer have 8/8 bits, as in published results; everything else as in the default recipe. What the targets are:
[GPTQ](methods/gptq.md); \`bc\` is [bias compensation](methods/bias-compensation.md).

Points: top-1 less that of the float model on the same samples, with the 95 % interval of the paired difference.
Agreement: equal largest outputs, in percent. KL: mean divergence of the softmax outputs from the float model's, in nats.
All labelled pictures: imagenet 800, vww 500, cifar10 2000; nothing else has seen them.

| bits w/a, rounding | top-1 | points | agreement | KL |
|---|---|---|---|---|
${cells.join("\n")}

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

/** @param {number} value */
function signed(value) {
  return `${value > 0 ? "+" : ""}${value.toFixed(2)}`;
}
