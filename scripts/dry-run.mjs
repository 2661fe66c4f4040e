/**
 * Measures how near `recoup quantize --dry-run` comes to the runs that it tells of, and writes bench/dry-run.md:
 *
 *     npm run bench:dry-run [-- --shared FOLDER] [--cells PATTERN] [--state FILE]… [--page]
 *
 * Cells that a state file holds already are not measured again (scripts/measuring.mjs). Needs /proc for memory.
 */
import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { version } from "recoup";
import { residentBytes } from "../dist/node/resident-memory.js";
import { Cells, classifiers } from "./measuring.mjs";

const samples = 64;
const gptq = ["--weights", "4", "--rounding", "gptq"];
const ways = [
  { title: "RTN", flags: ["--range", "mse"] },
  { title: "GPTQ same", flags: [...gptq, "--target", "same"] },
  { title: "GPTQ auto", flags: gptq },
];
const models = classifiers.filter(({ name }) => name !== "googlenet");
const command = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

const cells = new Cells("dry-run");
const output = join(cells.folder, "small.onnx");
const temporary = join(cells.folder, "temporary");
for (const { name, calibration } of models) {
  for (const { title, flags } of ways) {
    await cells.once(`${name} ${title}`, async () => {
      const data = join(cells.assets, calibration);
      const run = ["quantize", cells.modelOf(name), "--data", data, "--samples", String(samples), ...flags, "--json"];
      const told = await watch([...run, "--dry-run"]);
      const real = await watch([...run, "-o", output]);
      const { elapsedMs, memoryBytes, diskBytes, bytes, trials } = told.result;
      return {
        date: new Date().toISOString().slice(0, 10),
        told: { elapsedMs, memoryBytes, diskBytes, bytes, trials, wholeMs: told.wholeMs },
        real: {
          elapsedMs: real.result.elapsedMs,
          memoryBytes: real.peakBytes,
          diskBytes: real.diskBytes,
          bytes: real.result.cost.bytes,
          trials: real.result.trials.reduce((sum, { held }) => sum + held / (samples / 2), 0),
        },
      };
    });
  }
}
if (cells.writesPage) writeFileSync(join("bench", "dry-run.md"), page());

/**
 * Runs Recoup and looks at its memory and its temporary files.
 *
 * @param {readonly string[]} args
 * @returns {Promise<{ result: any, wholeMs: number, peakBytes: number, diskBytes: number }>}
 */
function watch(args) {
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary);
  const start = performance.now();
  const env = { ...process.env, TMPDIR: temporary };
  const child = spawn(process.execPath, [command, ...args], { stdio: ["ignore", "pipe", "inherit"], env });
  let [text, peakBytes, diskBytes] = ["", 0, 0];
  child.stdout.on("data", (chunk) => {
    text += chunk;
  });
  const timer = setInterval(() => {
    peakBytes = Math.max(peakBytes, residentBytes(child.pid) ?? 0);
    diskBytes = Math.max(diskBytes, sizeOf(temporary));
  }, 50);
  return new Promise((resolve, reject) => {
    child.on("close", (code) => {
      clearInterval(timer);
      if (code !== 0) return reject(new Error(`ended with ${code}: recoup ${args.join(" ")}`));
      resolve({ result: JSON.parse(text), wholeMs: performance.now() - start, peakBytes, diskBytes });
    });
  });
}

/** Bytes of the files below a folder. @param {string} folder @returns {number} */
function sizeOf(folder) {
  let bytes = 0;
  for (const entry of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const stats = statSync(join(folder, entry), { throwIfNoEntry: false });
    if (stats?.isFile()) bytes += stats.size;
  }
  return bytes;
}

/** @param {Record<string, number>} elapsedMs */
function total(elapsedMs) {
  return Object.values(elapsedMs).reduce((sum, ms) => sum + ms, 0);
}

/** @param {string} key @param {any} cell */
function rowOf(key, { told, real }) {
  const pair = (one, other, digits, unit) =>
    `${one.toFixed(digits)} / ${other.toFixed(digits)} ${unit} | ${(one / other).toFixed(2)}`;
  const [range, most] = [total(told.elapsedMs), (told.trials.most - told.trials.fewest) * told.trials.eachMs];
  const trials = told.trials.most === 0 ? "–" : `${told.trials.fewest} to ${told.trials.most} / ${real.trials}`;
  return [
    key,
    (told.wholeMs / 1000).toFixed(1),
    pair(range / 1000, total(real.elapsedMs) / 1000, 1, "s"),
    trials,
    most === 0 ? "–" : ((range + most) / 1000).toFixed(1),
    pair(told.memoryBytes / 1e6, real.memoryBytes / 1e6, 0, "MB"),
    pair(told.diskBytes / 1e6, real.diskBytes / 1e6, 1, "MB"),
    (told.bytes / real.bytes).toFixed(4),
  ].join(" | ");
}

function page() {
  const keys = models.flatMap(({ name }) => ways.map(({ title }) => `${name} ${title}`));
  const rows = keys.filter((key) => cells.state[key]).map((key) => /** @type {const} */ ([key, cells.state[key]]));
  const missing = keys.filter((key) => !cells.state[key]);
  const dates = [...new Set(rows.map(([, { date }]) => date))].sort().join(", ");
  return `# What a dry run tells, and what happens

Written by \`npm run bench:dry-run\` with Recoup ${version} on ${dates}: ${cells.machines()}, ${samples} samples, one run each of
\`recoup quantize --dry-run\` and of the run that it tells of, told / real. Others may have been at work on the machine: what is
told and what happens then differ by that too.

| run | dry run, s | time | ratio | trials | with all trials, s | memory | ratio | disk | ratio | size, ratio |
|---|---|---|---|---|---|---|---|---|---|---|
${rows.map(([key, cell]) => `| ${rowOf(key, cell)} |`).join("\n")}

${missing.length > 0 ? `Not measured: ${missing.join(", ")}.\n` : ""}
- **time**: all phases of the run, the comparison with the original included. A dry run quantizes on the first three batches (twice where there are trials and it is quick), rounds
  weights of some layers with GPTQ and others to nearest, and holds the result against the original on six samples; what
  repeats is multiplied: batches, samples, and solving by its work.
- **trials**: how many networks are quantized before the run to find a target. Nobody knows beforehand how many: each candidate is
  fitted on one half of the samples, and what is better there than what stands first is seen the other way round too. The time
  that is told has the fewest; **with all trials** is what it says beside that.
- **memory**: the most that all processes had resident together, looked at every 50 ms.
- **disk**: the most that temporary files took, looked at as often: models for the runtime, and tensors on their way to it and back.
  Of runs of a few seconds the most is often missed that way.
`;
}
