import { printable } from "../errors.js";
import { type Preflight, preflight } from "../node/preflight.js";
import type { QuantizeOptions } from "../node/quantize.js";
import { formatBytes, formatJson, formatMs, formatRatio, formatTable } from "./format.js";
import { Progress, printWarnings } from "./progress.js";

/** Prints what a run would take. */
export async function runPreflight(model: string, options: QuantizeOptions, isJson: boolean): Promise<void> {
  const progress = new Progress();
  const found = await preflight(model, { ...options, onProgress: progress.update }).finally(() => progress.finish());
  printWarnings(found.warnings);
  process.stdout.write(isJson ? formatJson({ model, ...found }) : summarize(model, found));
}

function summarize(model: string, found: Preflight): string {
  const { elapsedMs, memoryBytes, diskBytes, layers, skipped, blocks } = found;
  const total = Object.values(elapsedMs).reduce((sum, ms) => sum + ms, 0);
  const phases = Object.entries(elapsedMs).map(([phase, ms]) => `${phase} ${formatMs(ms)}`);
  const rows = [
    ["time", `${formatMs(total)}: ${phases.join(", ")}`],
    ["memory", memoryBytes === undefined ? "not known on this system" : formatBytes(memoryBytes)],
    ["disk", `${formatBytes(diskBytes)} of temporary files`],
    ["size", `${formatBytes(found.sourceBytes)} → ${formatBytes(found.bytes)} (${formatRatio(found.sizeRatio)})`],
    ["layers", `${layers} quantized in ${blocks} blocks; ${skipped} left in float`],
  ];
  const title = `${printable(model)}: a run over ${found.samples} samples, estimated from ${found.samplesRun}`;
  return [title, formatTable(rows), ""].join("\n");
}
