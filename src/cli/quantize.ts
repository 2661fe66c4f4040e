import { Command } from "commander";
import { printable, RecoupError } from "../errors.js";
import { describeDb } from "../evaluate/outputs.js";
import { checkDistinct, checkOutput, filesWritten } from "../node/model-source.js";
import { filesRead, type Quantized, type QuantizeOptions, quantize } from "../node/quantize.js";
import { renderReport } from "../report/html.js";
import { steps } from "../steps.js";
import { byteSize, commaList } from "./arguments.js";
import { CheckpointNotes } from "./checkpoint-notes.js";
import { formatBytes, formatJson, formatMs, formatNats, formatPercent, formatRatio, formatTable } from "./format.js";
import { runPreflight, summarizePreflight } from "./preflight.js";
import { Progress, printWarnings } from "./progress.js";
import { addDataOptions, addRecipeOptions, runGroup } from "./recipe-options.js";
import { writeText } from "./write-text.js";

interface Flags extends QuantizeOptions {
  readonly dryRun?: boolean;
  readonly report?: string;
  readonly json?: string | true;
}

export function quantizeCommand(signal: AbortSignal): Command {
  const command = new Command("quantize")
    .description("Write a small model: round weights and activations, compensate, say what it gained and cost.")
    .argument("<model>", "the ONNX model")
    .option("-o, --output <file>", "where to write the small model; only --dry-run goes without");
  addDataOptions(command).option(
    "--from-statistics <files...>",
    "ranges from what recoup statistics wrote, every shard of it",
  );
  return addRecipeOptions(command)
    .option(
      "--steps <names>",
      `what makes up for the error, in order: ${stepHelp()}; or auto, to find out (default: none; recoup recipes tells what each does)`,
      commaList,
    )
    .optionsGroup(runGroup)
    .option("--memory <size>", "activations kept in memory, others in files (default: 192MB)", byteSize("--memory"))
    .option("--external-data", "put the tensors into OUTPUT.data (default: as the model does, and above 1.5 GB)")
    .option("--no-external-data", "put the tensors into OUTPUT, up to 1.5 GB, where the model has them beside it")
    .option("--no-check", "do not run the small model, where there is no memory for it and the original")
    .option("--resume", "go on where the same command broke off, from OUTPUT.checkpoint")
    .option(
      "--dry-run",
      "run a few samples, tell what the whole run would take (time, memory, disk); no model is written",
    )
    .option("--report <file>", "write a report for people, in HTML")
    .option("--json [file]", "write the report, or what the dry run tells, as JSON; to stdout where no file is given")
    .addHelpText(
      "after",
      `
A run that works block by block, as with --steps and --rounding gptq, keeps each finished block in the folder
OUTPUT.checkpoint, which goes when the output is written. With --resume the same command continues from there, to the same
bytes; where nothing is there, from the beginning; where model, samples, recipe or version have changed, it is refused.
Without --resume the first finished block replaces what an earlier run has left.

Examples:
  recoup quantize model.onnx -o small.onnx --data pictures/
  recoup quantize model.onnx --data pictures/ --weights 4 --rounding gptq --dry-run
  recoup quantize model.onnx -o small.onnx --data calib.npy --weights 4 --activations 8 --steps bc
  recoup quantize llm.onnx -o small.onnx --data prompts.jsonl --weights 4 --activations none --granularity group:32`,
    )
    .action(async (model: string, { dryRun, output, ...flags }: Flags) => {
      if (dryRun) return dryRunOf(model, { ...flags, output }, signal);
      // As commander words it for an option that is always needed.
      if (output === undefined) return command.error("error: required option '-o, --output <file>' not specified");
      return run(model, { ...flags, output }, signal);
    });
}

/** Paths are checked as for the run; the model is not written. */
async function dryRunOf(model: string, flags: Flags, signal: AbortSignal): Promise<void> {
  const { report, json, resume, ...options } = flags;
  const refuse = (field: string, message: string) =>
    new RecoupError("usage/argument", `${message}: leave it out with --dry-run`, { field });
  if (report !== undefined) throw refuse("--report", "is of a finished run");
  if (resume) throw refuse("--resume", "is for a run that goes on, and what is told is of a whole one");
  checkOutputs(model, flags);
  const found = await runPreflight(model, { ...options, signal });
  writeResult(
    json,
    () => formatJson({ model, ...found }),
    () => summarizePreflight(model, found),
  );
}

async function run(model: string, flags: Flags & { readonly output: string }, signal: AbortSignal): Promise<void> {
  checkOutputs(model, flags);
  const { report, json, ...options } = flags;
  const checkpoint = checkpointOf(options.output);
  const progress = new Progress();
  const notes = new CheckpointNotes(checkpoint);
  const onResume = (blocks: number) => {
    progress.finish();
    notes.resumed(blocks);
  };
  const callbacks = { onProgress: progress.update, onResume, onCheckpoint: notes.kept };
  const result = await quantize(model, { ...options, checkpoint, signal, ...callbacks })
    .finally(() => progress.finish())
    .catch((error: unknown) => {
      notes.brokeOff();
      throw error;
    });
  printWarnings(result.report.warnings);
  if (report !== undefined) writeText(report, renderReport(model, options.output, result));
  writeResult(
    json,
    () => formatJson(jsonOf(model, options.output, result)),
    () => summarize(model, options.output, result, flags),
  );
}

/** For people on stdout, unless JSON is wanted there. */
function writeResult(json: Flags["json"], data: () => string, summary: () => string): void {
  const isOnStdout = json === true || json === "-";
  if (json !== undefined && !isOnStdout) writeText(json, data());
  process.stdout.write(isOnStdout ? data() : summary());
}

function checkOutputs(model: string, { report, json, output, ...options }: Flags): void {
  const texts = [report, json === "-" ? undefined : json].filter((path) => typeof path === "string");
  for (const path of texts) checkOutput(path, [model, ...filesRead(options)]);
  checkDistinct([...(output === undefined ? [] : [...filesWritten(output), checkpointOf(output)]), ...texts]);
}

function checkpointOf(output: string): string {
  return `${output}.checkpoint`;
}

function jsonOf(model: string, output: string, { report, cost, elapsedMs }: Quantized) {
  return { model, output, cost, elapsedMs, ...report };
}

function summarize(model: string, output: string, { report, cost, elapsedMs }: Quantized, flags: Flags): string {
  const integer = report.layers.filter((layer) => layer.activation !== "float").length;
  const total = Object.values(elapsedMs).reduce((sum, ms) => sum + ms, 0);
  const { latency, output: error } = cost;
  const rows = [
    ["size", `${formatBytes(cost.sourceBytes)} → ${formatBytes(cost.bytes)} (${formatRatio(cost.sizeRatio)})`],
    ...(latency === undefined ? [] : describeLatency(latency)),
    ["error", error === undefined ? "not measured" : describeError(error)],
    [
      "layers",
      `${report.layers.length} quantized, ${integer} of them on integer kernels; ${report.skipped.length} left in float`,
    ],
    ...describeTrials(report.trials),
    ...report.steps.map(({ name, outcome, sites }) => {
      const solved = sites.filter((site) => site.kind === "solved").length;
      return [name, sites.length === 0 ? "has no site" : `${solved} of ${sites.length} ${outcome}`];
    }),
    ["time", formatMs(total)],
  ];
  const reasons = [
    ...report.skipped.map(({ name, reason }) => [name, `left in float: ${reason}`]),
    ...report.layers.flatMap(({ name, remarks }) => remarks.map((remark) => [name, remark])),
    ...report.steps.flatMap(({ name: step, sites }) =>
      sites.flatMap((site) => {
        const note = site.kind === "skipped" ? site.reason : site.remark;
        return note === undefined ? [] : [[site.label, `${step}: ${note}`]];
      }),
    ),
  ];
  const preprocess = flags.preprocess ? ` --preprocess ${flags.preprocess}` : "";
  const next = `recoup compare ${model} ${output} --data ${flags.data}${preprocess}`;
  return [
    `${printable(model)} → ${printable(output)}`,
    formatTable(rows),
    ...(reasons.length > 0 ? [formatTable(reasons, 8)] : []),
    `Next: ${printable(next)}`,
    "",
  ].join("\n");
}

type Trials = Quantized["report"]["trials"];

function describeLatency(latency: NonNullable<Quantized["cost"]["latency"]>): readonly (readonly string[])[] {
  const { referenceMs, modelMs, ratio, referenceLoadMs, modelLoadMs } = latency;
  return [
    ["latency", `${formatMs(referenceMs)} → ${formatMs(modelMs)} (${formatRatio(ratio)}), one sample`],
    ["load", `${formatMs(referenceLoadMs)} → ${formatMs(modelLoadMs)}`],
  ];
}

function describeError({ agreement, kl, sqnrDb, samples }: NonNullable<Quantized["cost"]["output"]>): string {
  const figures = `agreement ${formatPercent(agreement)}, KL ${formatNats(kl)}, ${describeDb(sqnrDb)}`;
  return `${figures} (${samples} calibration samples)`;
}

function describeTrials(trials: Trials): readonly (readonly string[])[] {
  return trials.map(({ name, taken, kl, sqnrDb, held, gain }, i) => {
    const figures = `${name}: KL ${formatNats(kl)}, ${describeDb(sqnrDb)} on ${held} samples held back`;
    const told = gain === undefined ? figures : `${figures}, ${describeGain(gain)}`;
    return [i === 0 ? "tried" : "", taken ? `${told} (taken)` : told];
  });
}

function describeGain({ beside, share, standardError }: NonNullable<Trials[number]["gain"]>): string {
  const percent = (value: number) => Math.abs(100 * value).toFixed(1);
  return `${percent(share)} ± ${percent(standardError)} % ${share < 0 ? "more" : "less"} error than ${beside}`;
}

function stepHelp(): string {
  return steps.map(({ name }) => name).join(", ");
}
