/**
 * One measurement of `scripts/bench.mjs`, in a process of its own: takes what to measure as JSON, prints what it took as JSON.
 */
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { float32Tensor } from "recoup";
import { createRuntimeEngine, openDataset, quantize, readModelFile } from "recoup/node";
import { collect } from "../dist/calibrate/collect.js";
import { GramStatistic } from "../dist/calibrate/gram.js";
import { buildGraph } from "../dist/graph/graph.js";
import { makeModel } from "../dist/graph/model.js";
import { makeNode } from "../dist/graph/node.js";
import { factorGram, roundAgainstGram } from "../dist/quantize/gptq.js";

const { part, model, settings, data, output, samples } = JSON.parse(process.argv[2]);
const parts = { forward, quantize: quantizeFile, products };
console.log(JSON.stringify(await parts[part]()));

/** Decodes the pictures, loads the float model at the runtime's default options and runs them one by one. */
async function forward() {
  const start = performance.now();
  const float = readModelFile(model);
  const pictures = await openDataset(data, float.graph.inputs, { modelFolder: dirname(model) });
  const engine = createRuntimeEngine();
  const session = await engine.open(float, { mode: "shipped" });
  const indices = Array.from({ length: samples }, (_, i) => i);
  for await (const { feeds } of pictures.read(indices)) await session.run(feeds);
  const elapsedMs = performance.now() - start;
  await engine.close();
  return { elapsedMs, processorMs: processorMs() };
}

/** All of `quantize` up to where the finished model is held against the original, by phases. */
async function quantizeFile() {
  const start = performance.now();
  const marks = [{ phase: "start", at: start }];
  let processor = 0;
  const onProgress = (phase) => {
    if (phase === marks[marks.length - 1].phase) return;
    if (phase === "measure") processor = processorMs();
    marks.push({ phase, at: performance.now() });
  };
  await quantize(model, { data, output, samples, ...settings, onProgress });
  const end = performance.now();
  const phases = marks.map(({ phase, at }, i) => [phase, (marks[i + 1]?.at ?? end) - at]);
  const measured = phases.find(([phase]) => phase === "measure");
  return {
    elapsedMs: end - start - measured[1],
    wholeMs: end - start,
    processorMs: processor,
    phases: Object.fromEntries(phases.filter((one) => one !== measured)),
  };
}

/** A product of the size of a Gram matrix, bare and as a statistic; and the work that follows on it. In GFLOP/s. */
async function products() {
  const [rows, size, runs] = [1182, 768, 40];
  const value = (name, shape) => ({ name, type: { kind: "tensor", elementType: "float32", shape } });
  const empty = { initializers: new Map(), valueInfo: new Map() };
  const modelOf = (nodes, outputs) => {
    const graph = buildGraph({ name: "product", inputs: [value("x", [rows, size])], outputs, nodes, ...empty });
    return makeModel(graph, { irVersion: 8, opsets: new Map([["", 17]]) });
  };
  const engine = createRuntimeEngine();
  const input = float32Tensor(
    [rows, size],
    Float32Array.from({ length: rows * size }, (_, i) => Math.sin(i * i)),
  );
  const held = await engine.hold(new Map([["x", input]]));
  const flops = 2 * rows * size * size * runs;
  const nodes = [
    makeNode("Gemm", ["x", "x"], ["g"], { transA: 1 }),
    makeNode("ReduceMax", ["g"], ["s"], { keepdims: 0 }),
  ];
  const session = await engine.open(modelOf(nodes, [value("s", [])]), { mode: "shipped" });
  let bareMs = 0;
  for (let i = 0; i < runs; i++) bareMs += (await session.run(held)).elapsedMs;
  const gram = new GramStatistic({
    input: "x",
    rank: 2,
    form: { kind: "vectors", axis: -1 },
    columns: size,
    rowsPerRun: rows,
  });
  const batches = Array.from({ length: runs }, (_, i) => ({ id: String(i), feeds: held }));
  const gramStart = performance.now();
  const through = modelOf([makeNode("Identity", ["x"], ["y"])], [value("y", [rows, size])]);
  await collect(engine, through, [gram], ({ value: name }) => name, batches);
  const gramMs = performance.now() - gramStart;
  await engine.close();
  const weight = Float32Array.from({ length: size * size }, (_, i) => Math.cos(i * i));
  const grids = { scales: new Float32Array(size).fill(1 / 7), zeroPoints: new Int8Array(size), groupSize: size };
  const solveStart = performance.now();
  const solves = 4;
  for (let i = 0; i < solves; i++) {
    const factored = factorGram(gram.result().products, size, { order: "activation", damping: 0.01 });
    roundAgainstGram(factored, weight, size, { kind: "static", grids }, { low: -7, high: 7 });
  }
  const solveMs = performance.now() - solveStart;
  return {
    bare: flops / bareMs / 1e6,
    gram: flops / gramMs / 1e6,
    solve: (solves * (size ** 3 / 3 + size ** 3)) / solveMs / 1e6,
  };
}

/** What this process and those that it started and that have ended took of all cores; 0 where the system does not tell. */
function processorMs() {
  try {
    const fields = readFileSync("/proc/self/stat", "utf8").replace(/.*\) /s, "").split(" ");
    return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) * 10;
  } catch {
    return 0;
  }
}
