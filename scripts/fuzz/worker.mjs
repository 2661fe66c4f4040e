/** The thread that runs iterations of the fuzzer: one that hangs can be ended from outside. */
import { parentPort, workerData } from "node:worker_threads";
import { mutantOf, openCorpus } from "./corpus.mjs";
import { handle } from "./target.mjs";

/** How many iterations are told about at once. */
const chunk = 500;

const { seed, from, last, state, shared, left } = workerData;
const corpus = openCorpus(shared);
const start = performance.now();
let outcomes = {};
let slowest = { iteration: -1, ms: 0 };
let iteration = from;
for (; iteration < last && performance.now() - start < left; iteration++) {
  state[0] = iteration;
  state[1]++;
  const mutant = mutantOf(corpus, seed, iteration);
  const began = performance.now();
  let outcome;
  try {
    outcome = await handle(mutant);
  } catch (error) {
    outcome = "defect";
    const detail = String(error?.stack ?? error);
    parentPort.postMessage({ kind: "finding", finding: { seed, iteration, what: "exception", detail } });
  }
  outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  const ms = performance.now() - began;
  if (ms > slowest.ms) slowest = { iteration, ms };
  if ((iteration - from) % chunk === chunk - 1) tell(false);
}
tell(true);

/** @param {boolean} isDone */
function tell(isDone) {
  parentPort.postMessage({ kind: "progress", outcomes, slowest, isDone, next: isDone ? last : iteration + 1 });
  outcomes = {};
}
