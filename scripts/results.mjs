/**
 * Measures Recoup on real models and writes docs/results.md. Needs a folder with `assets/models` and their data:
 *
 *     node scripts/results.mjs [--shared FOLDER] [--models NAME,…] [--state FILE]
 *
 * Rows that the state file holds already are not measured again, so an interrupted run goes on where it stopped.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { version } from "recoup";
import { compare, evaluate, quantize } from "recoup/node";

const { values } = parseArgs({
  options: {
    shared: { type: "string", default: join("..", "shared") },
    models: { type: "string" },
    state: { type: "string", default: join("dist", "results.json") },
  },
});
const assets = join(values.shared, "assets");

const imagenet = { calibration: "imagenet/calib", data: "imagenet/val" };
const vww = { calibration: "vww/calib_images.npy", data: "vww/val_images.npy", labels: "vww/val_labels.npy" };
const cifar = {
  calibration: "cifar10/calib_images.npy",
  data: "cifar10/val_images.npy",
  labels: "cifar10/val_labels.npy",
};

/** @type {readonly { name: string, file: string, samples: number, calibration: string, data: string, labels?: string }[]} */
const models = [
  { name: "vit_tiny", file: "vit_tiny/model.onnx", samples: 64, ...imagenet },
  { name: "googlenet", file: "googlenet/model.onnx", samples: 128, ...imagenet },
  { name: "squeezenet1_1", file: "squeezenet1_1/model.onnx", samples: 128, ...imagenet },
  { name: "vww_mobilenet_v1_025", file: "vww_mobilenet_v1_025/model.onnx", samples: 128, ...vww },
  { name: "resnet20_cifar10", file: "resnet20_cifar10/model.onnx", samples: 128, ...cifar },
  { name: "resnet20_cifar10 (BN)", file: "resnet20_cifar10/model_bn.onnx", samples: 128, ...cifar },
];

const rows = [
  { weights: 8, activations: 8, steps: [] },
  { weights: 8, activations: 8, steps: ["bc"] },
  { weights: 4, activations: 8, steps: [] },
  { weights: 4, activations: 8, steps: ["bc"] },
  { weights: 3, activations: 8, steps: [] },
  { weights: 3, activations: 8, steps: ["bc"] },
  { weights: 2, activations: 8, steps: [] },
  { weights: 2, activations: 8, steps: ["bc"] },
];

/** @type {Record<string, any>} */
const state = existsSync(values.state) ? JSON.parse(readFileSync(values.state, "utf8")) : {};
const folder = mkdtempSync(join(tmpdir(), "recoup-results-"));
try {
  for (const model of models.filter(({ name }) => !values.models || values.models.split(",").includes(name))) {
    for (const row of rows) await measure(model, row);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (!values.models) writeFileSync("docs/results.md", page());

/** @param {(typeof models)[number]} model @param {(typeof rows)[number]} row */
async function measure(model, row) {
  const key = keyOf(model, row);
  if (state[key]) return;
  const source = join(assets, "models", model.file);
  const output = join(folder, "small.onnx");
  const path = (/** @type {string | undefined} */ name) => (name === undefined ? undefined : join(assets, name));
  const calibration = join(assets, model.calibration);
  const { elapsedMs } = await quantize(source, { ...row, data: calibration, output, samples: model.samples });
  const { measure: _, ...own } = elapsedMs;
  const evaluation = await evaluate(output, {
    task: "classification",
    data: join(assets, model.data),
    labels: path(model.labels),
    reference: source,
  });
  const { sizeRatio, latency } = await compare(source, output, { data: calibration, limit: 8 });
  const seconds = Object.values(own).reduce((sum, ms) => sum + ms, 0) / 1000;
  state[key] = { n: evaluation.n, ...evaluation.metrics, reference: evaluation.reference, sizeRatio, latency, seconds };
  writeFileSync(values.state, JSON.stringify(state, undefined, 2));
  const { agreement, kl, top1Difference } = state[key].reference;
  console.log(
    key,
    evaluation.metrics.top1.toFixed(2),
    top1Difference.difference.toFixed(2),
    agreement.toFixed(2),
    kl.toFixed(4),
  );
}

function page() {
  const lines = models.flatMap((model) => [
    `| **${model.name}**, ${model.samples} calibration samples | | | | | | | | |`,
    ...rows.map((row) => line(row, state[keyOf(model, row)])),
  ]);
  return `# Results

Written by \`npm run results\` on ${new Date().toISOString().slice(0, 10)} with Recoup ${version}: ${cpus().length} cores of
${cpus()[0].model.trim()}, onnxruntime at its default options. Every layer has the bits of its row, the first and the last
one too. [Ranges](methods/ranges.md) are the default ones; \`bc\` is [bias compensation](methods/bias-compensation.md).

Points: top-1 less that of the float model on the same samples, with the 95 % interval of the paired difference.
Agreement: equal largest outputs. KL: mean divergence of the softmax outputs from the float model's, in nats. Size,
latency, load: by those of the float file; latency is the median of one sample at a time, the two models in turns, each in a process of its own; load
is the time to create a session, in milliseconds for float and small. Seconds: the whole of \`recoup quantize\`.

| bits w/a, steps | top-1 | points | agreement | KL | size | latency | load ms | seconds |
|---|---|---|---|---|---|---|---|---|
${lines.join("\n")}

Evaluated on all of: imagenet 800, vww 500, cifar10 2000 labelled pictures that nothing else has seen.
`;
}

/** @param {(typeof rows)[number]} row @param {any} found */
function line({ weights, activations, steps }, found) {
  const { difference, confidence95 } = found.reference.top1Difference;
  const signed = (/** @type {number} */ value) => `${value > 0 ? "+" : ""}${value.toFixed(2)}`;
  const { latency } = found;
  return `| ${[
    `${weights}/${activations}${steps.length > 0 ? ` ${steps.join(",")}` : ""}`,
    found.top1.toFixed(2),
    `${signed(difference)} [${signed(confidence95[0])}, ${signed(confidence95[1])}]`,
    found.reference.agreement.toFixed(2),
    found.reference.kl.toPrecision(3),
    found.sizeRatio.toFixed(3),
    `${latency.ratio.toFixed(2)} (${latency.referenceMs.toFixed(2)} → ${latency.modelMs.toFixed(2)} ms)`,
    `${latency.referenceLoadMs.toFixed(0)} → ${latency.modelLoadMs.toFixed(0)}`,
    found.seconds.toFixed(1),
  ].join(" | ")} |`;
}

/** @param {(typeof models)[number]} model @param {(typeof rows)[number]} row */
function keyOf(model, { weights, activations, steps }) {
  return `${model.name} ${weights}/${activations} ${steps.join(",")}`;
}
