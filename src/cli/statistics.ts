import { Command } from "commander";
import { printable } from "../errors.js";
import { type MeasuredStatistics, measureStatistics, type StatisticsOptions } from "../node/statistics.js";
import { shardOf } from "./arguments.js";
import { formatBytes, formatJson } from "./format.js";
import { Progress, printWarnings } from "./progress.js";
import { addDataOptions, addRecipeOptions, runGroup } from "./recipe-options.js";

interface Flags extends StatisticsOptions {
  readonly output: string;
  readonly json?: boolean;
}

export function statisticsCommand(signal: AbortSignal): Command {
  const command = new Command("statistics")
    .description("Run calibration, or a part of it, and write what was seen, for recoup quantize --from-statistics.")
    .argument("<model>", "the ONNX model")
    .requiredOption("-o, --output <file>", "where to write the statistics");
  addDataOptions(command).option("--shard <part>", "the part of the samples: 2/8 is the second of eight", shardOf);
  return addRecipeOptions(command)
    .optionsGroup(runGroup)
    .option("--json", "print JSON to stdout")
    .addHelpText(
      "after",
      `
Data and recipe are those of the recoup quantize to come.

Example:
  recoup statistics model.onnx --data pictures/ --shard 1/2 -o 1.statistics
  recoup statistics model.onnx --data pictures/ --shard 2/2 -o 2.statistics
  recoup quantize model.onnx -o small.onnx --data pictures/ --from-statistics 1.statistics 2.statistics`,
    )
    .action(async (model: string, flags: Flags) => run(model, flags, signal));
}

async function run(model: string, flags: Flags, signal: AbortSignal): Promise<void> {
  const { json, ...options } = flags;
  const progress = new Progress();
  const measured = await measureStatistics(model, { ...options, signal, onProgress: progress.update }).finally(() =>
    progress.finish(),
  );
  printWarnings(measured.warnings);
  const { bytes, statistics, warnings } = measured;
  const report = { model, output: flags.output, bytes, header: statistics.header, warnings };
  process.stdout.write(json ? formatJson(report) : summarize(model, flags.output, measured));
}

function summarize(model: string, output: string, { statistics: { header }, bytes }: MeasuredStatistics): string {
  const { shard, data, samples } = header;
  const part = `shard ${shard.index}/${shard.count}, ${data.samples} of ${samples} samples`;
  return `${printable(model)} → ${printable(output)}: ${part}, ${formatBytes(bytes)}\n`;
}
