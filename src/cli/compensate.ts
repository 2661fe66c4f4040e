import { Command } from "commander";
import { printable } from "../errors.js";
import { describeDb } from "../evaluate/outputs.js";
import { type Compensated, type CompensateOptions, compensate, dataRead, stepNames } from "../node/compensate.js";
import { checkDistinct, checkOutput, filesWritten } from "../node/model-source.js";
import { renderCompensation } from "../report/compensation-html.js";
import { byteSize, commaList, threadCount } from "./arguments.js";
import { formatBytes, formatJson, formatMs, formatNats, formatPercent, formatRatio, formatTable } from "./format.js";
import { Progress, printWarnings } from "./progress.js";
import { addDataOptions, runGroup } from "./recipe-options.js";
import { writeText } from "./write-text.js";

interface Flags extends CompensateOptions {
  readonly output: string;
  readonly report?: string;
  readonly json?: string | true;
}

export function compensateCommand(signal: AbortSignal): Command {
  const command = new Command("compensate")
    .description(
      "Lower the error of a model that another tool has quantized, against the float model it was made from.",
    )
    .argument("<float>", "the original ONNX model")
    .argument("<quantized>", "the quantized ONNX model")
    .requiredOption("-o, --output <file>", "where to write the compensated model");
  return addDataOptions(command)
    .optionsGroup(runGroup)
    .option("--steps <names>", `steps, in order: ${stepNames.join(", ")} (default: bc)`, commaList)
    .option("--memory <size>", "activations kept in memory, others in files (default: 192MB)", byteSize("--memory"))
    .option("--threads <count>", "threads of the runtime (default: one a core)", threadCount)
    .option("--report <file>", "write a report for people, in HTML")
    .option("--json [file]", "write the report as JSON, to stdout where no file is given")
    .addHelpText(
      "after",
      `
Both models have the same inputs and outputs. Any format that onnxruntime runs will do: Q/DQ pairs, operators on codes
(QLinearConv and the like), dynamic quantization, MatMulNBits. ranges fits the grids of activations again; the other steps are
those of recoup quantize. A quarter of the samples is held back: what does not bring the model closer to the float model
there is not kept, nor what adds operators and does not surely so. Where nothing helps, the output is the quantized model,
byte for byte.

Examples:
  recoup compensate model.onnx model-int8.onnx -o better.onnx --data pictures/
  recoup compensate model.onnx model-int8.onnx -o better.onnx --data pictures/ --steps ranges,bc`,
    )
    .action(async (float: string, quantized: string, flags: Flags) => run(float, quantized, flags, signal));
}

async function run(float: string, quantized: string, flags: Flags, signal: AbortSignal): Promise<void> {
  const { report, json, ...options } = flags;
  const texts = [report, json === "-" ? undefined : json].filter((path) => typeof path === "string");
  for (const path of texts) checkOutput(path, [float, quantized, ...dataRead(options)]);
  checkDistinct([...filesWritten(options.output), ...texts]);
  const progress = new Progress();
  const settings = { ...options, signal, onProgress: progress.update };
  const result = await compensate(float, quantized, settings).finally(() => progress.finish());
  printWarnings(result.report.warnings);
  if (report !== undefined) writeText(report, renderCompensation(float, quantized, options.output, result));
  const { report: record, cost, elapsedMs } = result;
  const data = () => formatJson({ float, quantized, output: options.output, cost, elapsedMs, ...record });
  if (json === true || json === "-") process.stdout.write(data());
  else {
    if (json !== undefined) writeText(json, data());
    process.stdout.write(summarize(float, quantized, result, flags));
  }
}

function summarize(float: string, quantized: string, { report, cost, elapsedMs }: Compensated, flags: Flags): string {
  const { latency, before, after } = cost;
  const total = Object.values(elapsedMs).reduce((sum, ms) => sum + ms, 0);
  const describe = ({ kl, sqnrDb }: { readonly kl: number; readonly sqnrDb: number }) =>
    `KL ${formatNats(kl)}, ${describeDb(sqnrDb)}`;
  const rows = [
    ["size", `${formatBytes(cost.sourceBytes)} → ${formatBytes(cost.bytes)} (${formatRatio(cost.sizeRatio)})`],
    [
      "latency",
      `${formatMs(latency.referenceMs)} → ${formatMs(latency.modelMs)} (${formatRatio(latency.ratio)}), one sample`,
    ],
    [
      "error",
      `agreement ${formatPercent(before.agreement)} → ${formatPercent(after.agreement)}, ` +
        `KL ${formatNats(before.kl)} → ${formatNats(after.kl)}, ${describeDb(before.sqnrDb)} → ${describeDb(after.sqnrDb)}` +
        ` (${after.samples} calibration samples)`,
    ],
    ["aligned", `${report.aligned.layers} of ${report.layers} layers, ${report.aligned.values} values`],
    ...report.trials.map(({ steps, taken, ...figures }) => [
      steps.length === 0 ? "as given" : steps.join(","),
      `${describe(figures)} (${triedOn(report)})${taken ? " (taken)" : ""}`,
    ]),
    ...report.results.map(({ name, outcome, sites, kept }) => {
      const solved = sites.filter((site) => site.kind === "solved").length;
      const did = sites.length === 0 ? "has no site" : `${solved} of ${sites.length} ${outcome}`;
      return [name, kept ? did : `left out (${did})`];
    }),
    ["time", formatMs(total)],
  ];
  const reasons = [
    ...report.unaligned.map(({ label, reason }) => [label, `not aligned: ${reason}`]),
    ...report.results.flatMap(({ name, sites, kept }) =>
      sites.flatMap((site) => {
        const note = site.kind === "skipped" ? site.reason : kept ? site.remark : undefined;
        return note === undefined ? [] : [[site.label, `${name}: ${note}`]];
      }),
    ),
  ];
  const kept = report.isChanged
    ? []
    : ["Nothing brought it closer to the float model: the output is the quantized model as it was given."];
  const preprocess = flags.preprocess ? ` --preprocess ${flags.preprocess}` : "";
  const next = `recoup compare ${float} ${flags.output} --data ${flags.data}${preprocess}`;
  return [
    `${printable(quantized)} → ${printable(flags.output)}`,
    formatTable(rows),
    ...kept,
    ...(reasons.length > 0 ? [formatTable(reasons, 8)] : []),
    `Next: ${printable(next)}`,
    "",
  ].join("\n");
}

function triedOn({ held }: { readonly held: number }): string {
  if (held === 0) return "on what was fitted";
  return `${held} ${held === 1 ? "sample" : "samples"} held back`;
}
