import { Command } from "commander";
import { printable } from "../errors.js";
import { describeDb } from "../evaluate/outputs.js";
import { type CompareOptions, type Comparison, compare } from "../node/compare.js";
import { threadCount, wholeNumber } from "./arguments.js";
import { formatJson, formatMs, formatNats, formatPercent, formatRatio, formatTable } from "./format.js";
import { Progress, printWarnings } from "./progress.js";

interface Flags extends CompareOptions {
  readonly json?: boolean;
}

export function compareCommand(signal: AbortSignal): Command {
  return new Command("compare")
    .description("Hold a quantized model against its original: size, latency in turns, outputs, layers (worst first).")
    .argument("<float>", "the original ONNX model")
    .argument("<quantized>", "the quantized ONNX model")
    .requiredOption("--data <path>", "samples, labelled or not: a folder of pictures, .npy, .npz or .jsonl")
    .option("--preprocess <file>", "a Hugging Face preprocessor_config.json (default: the one beside the original)")
    .option("--limit <count>", "only the first samples (default: 64)", wholeNumber("--limit", 1))
    .option("--threads <count>", "threads of the runtime (default: one a core)", threadCount)
    .option("--json", "print JSON to stdout")
    .addHelpText("after", "\nExample:\n  recoup compare model.onnx small.onnx --data pictures/")
    .action(async (float: string, quantized: string, flags: Flags) => run(float, quantized, flags, signal));
}

async function run(float: string, quantized: string, flags: Flags, signal: AbortSignal): Promise<void> {
  const { json, ...options } = flags;
  const progress = new Progress();
  const onProgress = (done: number) => progress.update("compare", done);
  const result = await compare(float, quantized, { ...options, signal, onProgress }).finally(() => progress.finish());
  printWarnings(result.warnings);
  process.stdout.write(json ? formatJson(result) : summarize(float, quantized, result));
}

function summarize(float: string, quantized: string, result: Comparison): string {
  const { latency, output, layers } = result;
  const rows = [
    ["size", formatRatio(result.sizeRatio)],
    [
      "latency",
      `${formatMs(latency.referenceMs)} → ${formatMs(latency.modelMs)} (${formatRatio(latency.ratio)}), one sample`,
    ],
    ["load", `${formatMs(latency.referenceLoadMs)} → ${formatMs(latency.modelLoadMs)}`],
    [
      "output",
      `agreement ${formatPercent(output.agreement)}, KL ${formatNats(output.kl)}, ${describeDb(output.sqnrDb)}`,
    ],
  ];
  const worst = layers.map(({ name, sqnrDb }) => [describeDb(sqnrDb), name]);
  return [
    `${printable(quantized)} against ${printable(float)}, ${result.samples} samples`,
    formatTable(rows),
    ...(worst.length > 0 ? ["Layers, worst first (signal to error of their output):", formatTable(worst, 10)] : []),
    "",
  ].join("\n");
}
