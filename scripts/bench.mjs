/**
 * Measures what Recoup costs beside the bare forward passes of the same samples, in one run, as ratios, and writes
 * bench/results.json and bench/README.md:
 *
 *     npm run bench [-- --shared FOLDER] [--models NAME,…] [--ranges NAME,…] [--samples N] [--repeat 3] [--dry]
 *
 * Forward: decode the pictures, load the float model, run them one by one, in a process of its own. Recoup: the phases of
 * `recoup quantize` but the last, which measures the result. Memory: the most that the processes held together (Linux).
 */
import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { version } from "recoup";

const { values } = parseArgs({
  options: {
    shared: { type: "string", default: join("..", "shared") },
    models: { type: "string", default: "vit_tiny,googlenet" },
    ranges: { type: "string", default: "minmax,percentile,mse,kl" },
    samples: { type: "string", default: "64" },
    repeat: { type: "string", default: "3" },
    /** Prints only. */
    dry: { type: "boolean", default: false },
  },
});
const data = join(values.shared, "assets", "imagenet", "calib");
const output = join(tmpdir(), `recoup-bench-${process.pid}.onnx`);

/** @typedef {{ model: string, way: string, samples: number, forward: number, recoup: number, ratio: number, part: number, peakMB: number }} Row */

/** @type {Row[]} */
const rows = [];
for (const model of values.models.split(",")) {
  for (const range of values.ranges.split(",")) {
    await add(model, `ranges: ${range}`, Number(values.samples), { range }, "calibrate");
  }
  // Twice the samples, to see what time and memory follow.
  for (const samples of [2 * Number(values.samples), 4 * Number(values.samples)]) {
    await add(model, "GPTQ, 4/8 bits", samples, { weights: 4, rounding: "gptq", target: "float" }, "refine");
  }
}
const product = await bareProduct();
console.log(`\nbare product of the runtime, float32: ${product.toFixed(0)} GFLOP/s`);
if (!values.dry) {
  mkdirSync("bench", { recursive: true });
  writeFileSync(join("bench", "results.json"), `${JSON.stringify({ ...machine(), product, rows }, undefined, 2)}\n`);
  writeFileSync(join("bench", "README.md"), page());
}

/**
 * The middle one of some repetitions.
 *
 * @param {string} name @param {string} way @param {number} samples @param {object} settings @param {string} part
 */
async function add(name, way, samples, settings, part) {
  const model = join(values.shared, "assets", "models", name, "model.onnx");
  const rounds = [];
  for (let i = 0; i < Number(values.repeat); i++) {
    const forward = await run("forward", { model, samples });
    const { result, peakBytes } = await run("quantize", { model, samples, settings });
    const { measure: _, ...phases } = result;
    const recoup = Object.values(phases).reduce((sum, ms) => sum + ms, 0);
    const { total } = forward.result;
    rounds.push({ forward: total, recoup, ratio: recoup / total, part: phases[part] / total, peakMB: peakBytes / 1e6 });
  }
  const row = { model: name, way, samples, ...rounds.sort((a, b) => a.ratio - b.ratio)[Math.floor(rounds.length / 2)] };
  rows.push(row);
  console.log(cellsOf(row).join("  "));
}

/** @param {Row} row */
function cellsOf({ model, way, samples, forward, recoup, ratio, part, peakMB }) {
  const figures = [`${seconds(forward)} s`, `${seconds(recoup)} s`, ratio.toFixed(2), part.toFixed(2)];
  return [model, way, String(samples), ...figures, peakMB > 0 ? `${peakMB.toFixed(0)} MB` : "–"];
}

function machine() {
  return {
    version,
    date: new Date().toISOString().slice(0, 10),
    cores: cpus().length,
    processor: cpus()[0].model.trim(),
  };
}

function page() {
  const { date, cores, processor } = machine();
  const lines = rows.map((row) => `| ${cellsOf(row).join(" | ")} |`);
  return `# Benchmarks

Written by \`npm run bench\` on ${date} with Recoup ${version}: ${cores} cores of ${processor}; the middle of ${values.repeat}
repetitions.

Forward: decoding the pictures, loading the float model and running them one by one. Recoup: all of \`recoup quantize\` but its last
measurement of the result. Ratio: Recoup by forward; part: the same of the one phase that looks at the samples (for ranges the
calibration, for GPTQ the walk). Memory: the most that all processes held together.

| model | what | samples | forward | Recoup | ratio | part | memory |
|---|---|---|---|---|---|---|---|
${lines.join("\n")}

A bare product of two float32 matrices (768 × 1182 × 768) runs at ${product.toFixed(0)} GFLOP/s here, in the runtime.
`;
}

/** Of the size of a Gram matrix that GPTQ needs, on a batch, in GFLOP/s. */
async function bareProduct() {
  const script = `
    import { createRuntimeEngine } from "recoup/node";
    import { float32Tensor } from "recoup";
    import { buildGraph } from "./dist/graph/graph.js";
    import { makeModel } from "./dist/graph/model.js";
    import { makeNode } from "./dist/graph/node.js";
    const [rows, size, runs] = [1182, 768, 200];
    const value = (name, shape) => ({ name, type: { kind: "tensor", elementType: "float32", shape } });
    const graph = buildGraph({
      name: "product", inputs: [value("x", [rows, size])], outputs: [value("s", [])], initializers: new Map(), valueInfo: new Map(),
      nodes: [makeNode("Gemm", ["x", "x"], ["g"], { transA: 1 }), makeNode("ReduceMax", ["g"], ["s"], { keepdims: 0 })],
    });
    const engine = createRuntimeEngine();
    const session = await engine.open(makeModel(graph, { irVersion: 8, opsets: new Map([["", 17]]) }), { mode: "shipped" });
    const x = await engine.hold(new Map([["x", float32Tensor([rows, size], new Float32Array(rows * size).fill(0.5))]]));
    let elapsed = 0;
    for (let i = 0; i < runs; i++) elapsed += (await session.run(x)).elapsedMs;
    await engine.close();
    console.log(JSON.stringify({ total: (2 * rows * size * size * runs) / elapsed / 1e6 }));`;
  return (await runScript(script, {})).result.total;
}

/** @param {number} ms */
function seconds(ms) {
  return (ms / 1000).toFixed(2);
}

/**
 * @param {"forward" | "quantize"} part
 * @param {{ model: string, samples: number, settings?: object }} given
 */
function run(part, given) {
  const script = `
    import { createRuntimeEngine, openDataset, quantize, readModelFile } from "recoup/node";
    const { part, model, modelFolder, settings, data, output, samples } = JSON.parse(process.argv[1]);
    if (part === "quantize") {
      const { elapsedMs } = await quantize(model, { data, output, samples, ...settings });
      console.log(JSON.stringify(elapsedMs));
    } else {
      const start = performance.now();
      const float = readModelFile(model);
      const pictures = await openDataset(data, float.graph.inputs, { modelFolder });
      const engine = createRuntimeEngine();
      const session = await engine.open(float, { mode: "shipped" });
      const indices = Array.from({ length: samples }, (_, i) => i);
      for await (const { feeds } of pictures.read(indices)) await session.run(feeds);
      const total = performance.now() - start;
      await engine.close();
      console.log(JSON.stringify({ total }));
    }`;
  return runScript(script, { part, ...given, modelFolder: dirname(given.model), data, output });
}

/**
 * Runs a script in a process of its own and watches how much memory it and its children hold.
 *
 * @param {string} script @param {object} given
 * @returns {Promise<{ result: Record<string, number>, peakBytes: number }>}
 */
function runScript(script, given) {
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, JSON.stringify(given)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  let peakBytes = 0;
  child.stdout.on("data", (chunk) => {
    text += chunk;
  });
  const timer = setInterval(() => {
    peakBytes = Math.max(peakBytes, treeBytes(Number(child.pid)));
  }, 20);
  return new Promise((resolve, reject) => {
    child.on("close", (code) => {
      clearInterval(timer);
      if (code === 0) resolve({ result: JSON.parse(text), peakBytes });
      else reject(new Error(`ended with ${code}`));
    });
  });
}

/** Resident memory of a process and those it started. @param {number} root */
function treeBytes(root) {
  try {
    const parents = new Map(
      readdirSync("/proc")
        .filter((name) => /^\d+$/.test(name))
        .map((name) => [
          Number(name),
          Number(readFileSync(`/proc/${name}/stat`, "utf8").replace(/.*\) /s, "").split(" ")[1]),
        ]),
    );
    const family = new Set([root]);
    for (const [pid, parent] of [...parents].sort(([a], [b]) => a - b)) if (family.has(parent)) family.add(pid);
    return [...family].reduce(
      (sum, pid) => sum + Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]) * 4096,
      0,
    );
  } catch {
    return 0;
  }
}
