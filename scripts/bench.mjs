/**
 * Measures what calibration costs beside the bare forward passes of the same samples, in one run, as a ratio:
 *
 *     npm run bench [-- --shared FOLDER] [--models NAME,…] [--ranges NAME,…] [--repeat 3]
 *
 * Forward: decode the pictures, load the float model, run them one by one, in a process of its own. Recoup: the phases of
 * `recoup quantize` but the last, which measures the result. Memory: the most that the processes held together (Linux).
 */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    shared: { type: "string", default: join("..", "shared") },
    models: { type: "string", default: "vit_tiny,googlenet" },
    ranges: { type: "string", default: "minmax,percentile,mse,kl" },
    samples: { type: "string", default: "64" },
    repeat: { type: "string", default: "3" },
  },
});
const data = join(values.shared, "assets", "imagenet", "calib");
const output = join(tmpdir(), `recoup-bench-${process.pid}.onnx`);

console.log("model          range            forward    recoup   ratio   calibrate alone   peak memory");
for (const name of values.models.split(",")) {
  const model = join(values.shared, "assets", "models", name, "model.onnx");
  for (const range of values.ranges.split(",")) {
    const rounds = [];
    for (let i = 0; i < Number(values.repeat); i++) rounds.push(await measure(model, range));
    const { forward, recoup, calibrate, peakBytes } = rounds.sort(
      (a, b) => a.recoup / a.forward - b.recoup / b.forward,
    )[Math.floor(rounds.length / 2)];
    const cells = [`${seconds(forward)} s`, `${seconds(recoup)} s`, (recoup / forward).toFixed(2)];
    const last = [`${(calibrate / forward).toFixed(2)} ×`, peakBytes ? `${(peakBytes / 1e6).toFixed(0)} MB` : "–"];
    console.log(
      `${name.padEnd(14)} ${range.padEnd(14)} ${cells.map((cell) => cell.padStart(9)).join("")}${last.map((cell) => cell.padStart(16)).join("")}`,
    );
  }
}

/** @param {string} model @param {string} range */
async function measure(model, range) {
  const forward = await run("forward", { model });
  const { result, peakBytes } = await run("quantize", { model, range });
  const { measure: _, ...phases } = result;
  const recoup = Object.values(phases).reduce((sum, ms) => sum + ms, 0);
  return { forward: forward.result.total, recoup, calibrate: phases.calibrate, peakBytes };
}

/** @param {number} ms */
function seconds(ms) {
  return (ms / 1000).toFixed(2);
}

/**
 * Runs one part in a process of its own and watches how much memory it and its children hold.
 *
 * @param {"forward" | "quantize"} part
 * @param {Record<string, string>} given
 * @returns {Promise<{ result: Record<string, number>, peakBytes: number }>}
 */
function run(part, given) {
  const script = `
    import { createRuntimeEngine, openDataset, quantize, readModelFile } from "recoup/node";
    const { part, model, modelFolder, range, data, output, samples } = JSON.parse(process.argv[1]);
    if (part === "quantize") {
      const { elapsedMs } = await quantize(model, { data, output, samples, range });
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
  const argument = JSON.stringify({
    part,
    ...given,
    modelFolder: dirname(given.model),
    data,
    output,
    samples: Number(values.samples),
  });
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, argument], {
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
      else reject(new Error(`${part} ended with ${code}`));
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
