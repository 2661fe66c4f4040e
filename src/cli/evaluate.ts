import { Command, Option } from "commander";
import { printable } from "../errors.js";
import type { Interval } from "../evaluate/intervals.js";
import { type EvaluateOptions, type Evaluation, evaluate } from "../node/evaluate.js";
import { threadCount, wholeNumber } from "./arguments.js";
import { formatJson, formatMs, formatNats, formatPercent, formatTable } from "./format.js";
import { Progress, printWarnings } from "./progress.js";

interface Flags extends EvaluateOptions {
  readonly json?: boolean;
}

export function evaluateCommand(signal: AbortSignal): Command {
  return new Command("evaluate")
    .description("Measure a model on samples that nothing else has seen, alone or beside a reference.")
    .argument("<model>", "the ONNX model")
    .addOption(
      new Option("--task <task>", "what the model does")
        .choices(["classification", "perplexity"])
        .makeOptionMandatory(),
    )
    .requiredOption("--data <path>", "samples: a folder of pictures, .npy, .npz or .jsonl")
    .option("--labels <file>", "labels: .csv of file,label, .npy, or one a line (default: labels.csv or class folders)")
    .option("--preprocess <file>", "a Hugging Face preprocessor_config.json (default: the one beside the model)")
    .option("--reference <model>", "another model, usually the float one: agreement, KL and the paired difference")
    .option("--limit <count>", "only the first samples", wholeNumber("--limit", 1))
    .option(
      "--label-offset <number>",
      "added to every label: 1 for models with a background class",
      wholeNumber("--label-offset", -1000, 1000),
    )
    .option("--threads <count>", "threads of the runtime (default: one a core)", threadCount)
    .option("--json", "print JSON to stdout")
    .addHelpText(
      "after",
      `
Examples:
  recoup evaluate small.onnx --task classification --data val/ --reference model.onnx
  recoup evaluate small.onnx --task classification --data val.npy --labels labels.npy --json
  recoup evaluate small.onnx --task perplexity --data text.jsonl --reference model.onnx`,
    )
    .action(async (model: string, flags: Flags) => run(model, flags, signal));
}

async function run(path: string, flags: Flags, signal: AbortSignal): Promise<void> {
  const { json, ...options } = flags;
  const progress = new Progress();
  const onProgress = (done: number) => progress.update("evaluate", done);
  const result = await evaluate(path, { ...options, signal, onProgress }).finally(() => progress.finish());
  printWarnings(result.warnings);
  process.stdout.write(json ? formatJson(jsonOf(result)) : summarize(path, result));
}

/** The figures beside a reference stand where those of the model stand. */
function jsonOf({ warnings: _, ...result }: Evaluation) {
  if (result.reference === undefined) return result;
  const { metrics: _metrics, latencyMs: _latencyMs, ...beside } = result.reference;
  return { ...result, ...beside };
}

function summarize(path: string, result: Evaluation): string {
  const table = formatTable(result.task === "perplexity" ? perplexityRows(result) : classificationRows(result));
  return `${printable(path)}, ${result.n} samples (95 % intervals in brackets)\n${table}\n`;
}

function perplexityRows({ metrics, tokens, confidence95, latencyMs, reference }: Evaluation<"perplexity">) {
  const [low, high] = confidence95.perplexity.map((end) => end.toFixed(3));
  const rows = [
    ["perplexity", `${metrics.perplexity.toFixed(3)}  [${low}, ${high}]`],
    ["tokens", String(tokens)],
    ["latency", `${formatMs(latencyMs.median)} median, ${formatMs(latencyMs.p95)} p95`],
  ];
  if (reference === undefined) return rows;
  const { median } = reference.latencyMs;
  return [
    ...rows,
    ["reference", `perplexity ${reference.metrics.perplexity.toFixed(3)}, latency ${formatMs(median)} median`],
    ["agreement", formatPercent(reference.agreement)],
    ["KL", formatNats(reference.kl)],
  ];
}

function classificationRows(result: Evaluation<"classification">) {
  const { metrics, confidence95, latencyMs, reference } = result;
  const rows = [
    ["top-1", `${formatPercent(metrics.top1)}  ${formatInterval(confidence95.top1)}`],
    ["top-5", `${formatPercent(metrics.top5)}  ${formatInterval(confidence95.top5)}`],
    ["latency", `${formatMs(latencyMs.median)} median, ${formatMs(latencyMs.p95)} p95`],
  ];
  if (reference) {
    const { difference, confidence95: interval } = reference.top1Difference;
    rows.push(
      [
        "reference",
        `top-1 ${formatPercent(reference.metrics.top1)}, latency ${formatMs(reference.latencyMs.median)} median`,
      ],
      ["difference", `${signed(difference)} points  [${signed(interval[0])}, ${signed(interval[1])}]`],
      ["agreement", formatPercent(reference.agreement)],
      ["KL", formatNats(reference.kl)],
    );
  }
  return rows;
}

function formatInterval([low, high]: Interval): string {
  return `[${low.toFixed(2)}, ${high.toFixed(2)}]`;
}

function signed(value: number): string {
  return `${value > 0 ? "+" : ""}${value.toFixed(2)}`;
}
