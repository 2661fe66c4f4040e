/**
 * Measures what Recoup costs beside the bare forward passes of the same samples, in one run, as ratios, and writes
 * bench/results.json and bench/README.md:
 *
 *     npm run bench [-- --shared FOLDER] [--models NAME,…] [--ranges NAME,…] [--samples N] [--repeat 1] [--peer PYTHON] [--dry]
 *     npm run bench -- --rows PATTERN   # measures again the rows whose name matches, as "googlenet GPTQ"; others stay as they are
 *     npm run bench -- --page           # writes the page again, of the results that are there
 *
 * What each figure is stands on the page that it writes.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { version as current } from "recoup";
import { residentBytes } from "../dist/node/resident-memory.js";

const { values } = parseArgs({
  options: {
    shared: { type: "string", default: join("..", "shared") },
    models: { type: "string", default: "vit_tiny,googlenet" },
    ranges: { type: "string", default: "minmax,percentile,mse,kl" },
    samples: { type: "string", default: "64" },
    repeat: { type: "string", default: "1" },
    /** A Python that has onnxruntime. */
    peer: { type: "string", default: "python3" },
    rows: { type: "string" },
    /** Prints only. */
    dry: { type: "boolean", default: false },
    /** Measures nothing. */
    page: { type: "boolean", default: false },
  },
});
const data = join(values.shared, "assets", "imagenet", "calib");
const output = join(tmpdir(), `recoup-bench-${process.pid}.onnx`);
const task = fileURLToPath(new URL("bench-task.mjs", import.meta.url));
const gptq = { weights: 4, activations: 8, rounding: "gptq" };

/**
 * @typedef {{ model: string, way: string, samples: number, forwardMs: number, elapsedMs: number, wholeMs: number, ratio: number,
 *   processorRatio: number, busy: number, peakMB: number, phases: Record<string, number> }} Row
 */

const phaseNames = ["start", "clean", "calibrate", "quantize", "refine", "check"];
const count = Number(values.samples);

const known = values.page || values.rows ? JSON.parse(readFileSync(join("bench", "results.json"), "utf8")) : undefined;
/** @type {Row[]} */
const rows = known?.rows ?? [];
if (!values.page) await measureAll(new RegExp(values.rows ?? ""));
const speeds = known?.speeds ?? (await run({ part: "products" })).result;
const peer = known?.peer ?? comparePeer();
const machine = known ?? machineNow();
const repeat = known?.repeat ?? Number(values.repeat);
if (values.dry) console.log(page());
else {
  mkdirSync("bench", { recursive: true });
  const { version, date, cores, processor, load } = machine;
  const results = { version, date, cores, processor, load, repeat, speeds, rows, peer };
  writeFileSync(join("bench", "results.json"), `${JSON.stringify(results, undefined, 2)}\n`);
  writeFileSync(join("bench", "README.md"), page());
}

/** @param {RegExp} wanted */
async function measureAll(wanted) {
  for (const model of values.models.split(",")) {
    const ranges = values.ranges
      .split(",")
      .map((range) => ({ way: `ranges: ${range}`, samples: count, settings: { range } }));
    // Twice the samples, to see what time and memory follow.
    const rounding = [count, 2 * count].map((samples) => ({
      way: "GPTQ, target same",
      samples,
      settings: { ...gptq, target: "same" },
    }));
    for (const { way, samples, settings } of [...ranges, ...rounding])
      if (wanted.test(`${model} ${way}`)) await add(model, way, samples, settings);
  }
}

/**
 * The middle one of some repetitions.
 *
 * @param {string} name @param {string} way @param {number} samples @param {object} settings
 */
async function add(name, way, samples, settings) {
  const model = join(values.shared, "assets", "models", name, "model.onnx");
  const rounds = [];
  for (let i = 0; i < Number(values.repeat); i++) {
    const { result: bare } = await run({ part: "forward", model, samples, data });
    const { result, peakBytes } = await run({ part: "quantize", model, samples, settings, data, output });
    rounds.push({
      forwardMs: bare.elapsedMs,
      elapsedMs: result.elapsedMs,
      wholeMs: result.wholeMs,
      ratio: result.elapsedMs / bare.elapsedMs,
      processorRatio: result.processorMs / bare.processorMs,
      busy: result.processorMs / result.elapsedMs / cpus().length,
      peakMB: peakBytes / 1e6,
      phases: result.phases,
    });
  }
  const row = { model: name, way, samples, ...rounds.sort((a, b) => a.ratio - b.ratio)[Math.floor(rounds.length / 2)] };
  const place = rows.findIndex((one) => one.model === name && one.way === way && one.samples === samples);
  if (place === -1) rows.push(row);
  else rows[place] = row;
  console.log(cellsOf(row).join("  "));
}

/** @param {Row} row */
function cellsOf({ model, way, samples, forwardMs, elapsedMs, wholeMs, ratio, processorRatio, busy, peakMB }) {
  const times = [forwardMs, elapsedMs, wholeMs].map((ms) => `${seconds(ms)} s`);
  const ratios = [ratio.toFixed(2), processorRatio.toFixed(2), `${(100 * busy).toFixed(0)} %`];
  return [model, way, String(samples), ...times, ...ratios, peakMB > 0 ? `${peakMB.toFixed(0)} MB` : "–"];
}

/** @param {Row} row */
function phaseCells({ model, way, samples, phases }) {
  return [model, way, String(samples), ...phaseNames.map((name) => (phases[name] ? seconds(phases[name]) : "–"))];
}

function machineNow() {
  const [{ model }] = cpus();
  const date = new Date().toISOString().slice(0, 10);
  return { version: current, date, cores: cpus().length, processor: model.trim(), load: loadavg()[2] };
}

function page() {
  const { version, date, cores, processor, load } = machine;
  const repeats = repeat === 1 ? "one run each" : `the middle of ${repeat} runs`;
  return `# Benchmarks

Written by \`npm run bench\` on ${date} with Recoup ${version}: ${cores} cores of ${processor}, ${repeats}. Load of the machine at the
end, over 15 minutes: ${load.toFixed(1)}${load > 1.5 * cores ? " — others were at work on it: seconds and their ratios are rough, ratios of processor time less so" : ""}.

| model | what | samples | forward | Recoup | whole command | ratio | processor | busy | memory |
|---|---|---|---|---|---|---|---|---|---|
${rows.map((row) => `| ${cellsOf(row).join(" | ")} |`).join("\n")}

- **forward**: decoding the pictures, loading the float model and running them one by one.
- **Recoup**: all of \`recoup quantize\` up to the finished, checked model; **whole command** holds it against the original, too, for
  its error and its latency.
- **ratio**: Recoup by forward, right after one another; **processor**: the same of the time of all cores together.
- **busy**: processor time by the time that all cores had. The runtime's threads wait for work at full speed and count as busy.
- **memory**: the most that all processes had resident together.

${growth()}
How near \`recoup quantize --dry-run\` comes to what happens: [dry runs](dry-run.md).

## Where the time goes

Seconds of each phase.

| model | what | samples | ${phaseNames.join(" | ")} |
|---|---|---|${phaseNames.map(() => "---|").join("")}
${rows.map((row) => `| ${phaseCells(row).join(" | ")} |`).join("\n")}

\`start\`: reading the model and listing the samples, while the first pictures are decoded. \`refine\` is the walk through the network.
A target that is found by trials takes several walks more: [dry runs](dry-run.md).

## Products

Of a layer with 768 columns, on 1,182 rows a batch: a bare product of two float32 matrices in the runtime runs at
**${speeds.bare.toFixed(0)} GFLOP/s**; the same as a Gram matrix that is fetched and summed in float64 at ${speeds.gram.toFixed(0)}, that is
${(speeds.gram / speeds.bare).toFixed(2)} of it; factoring and rounding (float64, one core) at ${speeds.solve.toFixed(1)}.

## Beside another tool

${peer}
`;
}

/** What twice the samples take, of rows that differ in nothing else. */
function growth() {
  const lines = rows.flatMap((row) => {
    const half = rows.find(
      ({ model, way, samples }) => model === row.model && way === row.way && samples * 2 === row.samples,
    );
    if (half === undefined) return [];
    const [time, memory] = [row.elapsedMs / half.elapsedMs, row.peakMB / half.peakMB].map((ratio) => ratio.toFixed(2));
    return [
      `${row.model}, ${row.way}: ${row.samples} samples for ${half.samples} take ${time} × the time, ${memory} × the memory.`,
    ];
  });
  return lines.length > 0 ? `${lines.join("\n")}\n` : "";
}

/** onnxruntime's own quantizer in Python on the same samples, where it can be had. */
function comparePeer() {
  const script = join(values.shared, "peers", "onnxruntime_static.py");
  const isThere = existsSync(script) && spawnSync(values.peer, ["-c", "import onnxruntime, onnx, PIL"]).status === 0;
  if (!isThere)
    return "No Python with onnxruntime, onnx and pillow could be had on this machine (`--peer` names one), so there is no figure.";
  const lines = values.models.split(",").flatMap((model) =>
    ["minmax", "percentile", "entropy"].map((method) => {
      const flags = ["--samples", String(count), "--limit", "8", "--pre", "--per-channel", "--convmatmul"];
      const { stdout } = spawnSync(values.peer, [script, model, method, ...flags], { encoding: "utf8" });
      const { seconds: took, ratio, peak_mb: peak } = JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}");
      return `| ${model} | ${method} | ${took} s | ${ratio} | ${peak} MB |`;
    }),
  );
  return `onnxruntime's own quantizer in Python, ${count} samples; the ratio is to bare passes without loading.

| model | method | time | ratio | memory |
|---|---|---|---|---|
${lines.join("\n")}`;
}

/** @param {number} ms */
function seconds(ms) {
  return (ms / 1000).toFixed(2);
}

/**
 * Runs a measurement in a process of its own and watches how much memory it and its children hold.
 *
 * @param {object} given
 * @returns {Promise<{ result: any, peakBytes: number }>}
 */
function run(given) {
  const child = spawn(process.execPath, [task, JSON.stringify(given)], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  let peakBytes = 0;
  child.stdout.on("data", (chunk) => {
    text += chunk;
  });
  const timer = setInterval(() => {
    peakBytes = Math.max(peakBytes, residentBytes(child.pid) ?? 0);
  }, 20);
  return new Promise((resolve, reject) => {
    child.on("close", (code) => {
      clearInterval(timer);
      if (code === 0) resolve({ result: JSON.parse(text), peakBytes });
      else reject(new Error(`ended with ${code}`));
    });
  });
}
