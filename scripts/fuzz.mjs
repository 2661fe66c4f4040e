/**
 * Feeds mutated models to everything that handles models before the runtime does (see scripts/fuzz/target.mjs):
 *
 *     npm run fuzz -- [--iterations N] [--seed S] [--seconds T] [--only I] [--shared FOLDER] [--out FOLDER]
 *
 * Whatever it meets must be a model or a typed error, in less than two seconds and in bounded memory. An iteration depends on the seed and
 * its number alone, so `--seed S --only I` repeats one. What fails is written into a folder, and the exit code is 1.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { mutantOf, openCorpus } from "./fuzz/corpus.mjs";

/** @typedef {{ seed: number, iteration: number, what: string, detail: string }} Finding */

/** An iteration that takes longer hangs, in milliseconds. */
const longestMs = 2000;
const mostMemoryBytes = 1e9;
/** Then a run ends: one defect is found again and again. */
const mostFindings = 20;
/** Whether the thread still answers is looked at so often, in milliseconds. */
const lookMs = 20;

const { values } = parseArgs({
  options: {
    iterations: { type: "string", default: "20000" },
    seed: { type: "string", default: "1" },
    seconds: { type: "string" },
    only: { type: "string" },
    shared: { type: "string", default: join("..", "shared") },
    out: { type: "string", default: join(tmpdir(), "recoup-fuzz") },
  },
});
const seed = Number(values.seed);
const first = values.only === undefined ? 0 : Number(values.only);
const last = values.only === undefined ? Number(values.iterations) : first + 1;
const deadline = values.seconds === undefined ? Number.POSITIVE_INFINITY : 1000 * Number(values.seconds);
const corpus = openCorpus(values.shared);

/** @type {Finding[]} */
const findings = [];
const slowest = { iteration: -1, ms: 0 };
/** @type {Record<string, number>} */
const outcomes = {};
const start = performance.now();
let next = first;
while (next < last && findings.length < mostFindings && performance.now() - start < deadline)
  next = await runFrom(next);
report();
process.exitCode = findings.length > 0 ? 1 : 0;

/**
 * Runs iterations in a thread of its own, until all are done or one hangs or ends it.
 *
 * @param {number} from
 * @returns {Promise<number>} the iteration to go on with
 */
function runFrom(from) {
  // What the thread is doing, for the time when it does not answer: iteration, and how many it has begun.
  const state = new Int32Array(new SharedArrayBuffer(8));
  const workerData = { seed, from, last, state, shared: values.shared, left: deadline - (performance.now() - start) };
  const worker = new Worker(new URL("fuzz/worker.mjs", import.meta.url), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: 700 },
  });
  return new Promise((resolve) => {
    let seen = { begun: -1, at: performance.now() };
    const finish = (/** @type {number} */ goOn) => {
      clearInterval(timer);
      worker.terminate().then(() => resolve(goOn));
    };
    const timer = setInterval(() => {
      const [iteration, begun] = state;
      if (begun !== seen.begun) seen = { begun, at: performance.now() };
      // It is loading what it needs.
      else if (begun > 0 && performance.now() - seen.at > 2 * longestMs) {
        note({ seed, iteration, what: "hang", detail: `more than ${2 * longestMs} ms` });
        finish(iteration + 1);
      }
    }, lookMs);
    worker.on("message", (message) => {
      if (message.kind === "finding") note(message.finding);
      else {
        for (const [what, count] of Object.entries(message.outcomes)) outcomes[what] = (outcomes[what] ?? 0) + count;
        if (message.slowest.ms > slowest.ms) Object.assign(slowest, message.slowest);
        if (message.isDone) finish(message.next);
      }
    });
    worker.on("error", (error) => {
      note({ seed, iteration: state[0], what: "thread ended", detail: String(error.stack ?? error) });
      finish(state[0] + 1);
    });
  });
}

/** @param {Finding} finding */
function note(finding) {
  findings.push(finding);
  mkdirSync(values.out, { recursive: true });
  const path = join(values.out, `${finding.seed}-${finding.iteration}.onnx`);
  writeFileSync(path, mutantOf(corpus, finding.seed, finding.iteration));
  console.error(`${finding.what} at --seed ${finding.seed} --only ${finding.iteration} (${path})\n${finding.detail}\n`);
}

function report() {
  const seconds = (performance.now() - start) / 1000;
  const done = Object.values(outcomes).reduce((sum, count) => sum + count, 0);
  if (slowest.ms > longestMs) {
    note({ seed, iteration: slowest.iteration, what: "slow", detail: `${slowest.ms.toFixed(0)} ms` });
  }
  const peak = readPeak();
  if (peak > mostMemoryBytes) {
    // Of all iterations together: none repeats it.
    findings.push({ seed, iteration: -1, what: "memory", detail: `${(peak / 1e6).toFixed(0)} MB` });
    console.error(`memory: more than ${mostMemoryBytes / 1e6} MB\n`);
  }
  console.log(`seed ${seed}: ${done} iterations over ${corpus.length} models in ${seconds.toFixed(1)} s`);
  console.log(`${(done / seconds).toFixed(0)} iterations per second; peak memory ${(peak / 1e6).toFixed(0)} MB`);
  console.log(`slowest: ${slowest.ms.toFixed(0)} ms (--only ${slowest.iteration})`);
  const sorted = Object.entries(outcomes).sort((a, b) => b[1] - a[1]);
  for (const [what, count] of sorted) console.log(`${String(count).padStart(9)} ${what}`);
  console.log(`${findings.length} findings`);
}

/** The most bytes that were ever resident. */
function readPeak() {
  // What Node tells counts the process that started this one, too, where the system is Linux.
  const status = existsSync("/proc/self/status") ? readFileSync("/proc/self/status", "utf8") : "";
  const [, kibibytes] = /^VmHWM:\s*(\d+) kB$/m.exec(status) ?? [];
  return 1024 * Number(kibibytes ?? process.resourceUsage().maxRSS);
}
