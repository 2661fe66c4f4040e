import { printable } from "../errors.js";
import { type Preflight, preflight } from "../node/preflight.js";
import type { QuantizeOptions } from "../node/quantize.js";
import { formatBytes, formatMs, formatRatio, formatTable } from "./format.js";
import { Progress, printWarnings } from "./progress.js";

/** Finds out what a run would take; progress and warnings go to stderr. */
export async function runPreflight(model: string, options: QuantizeOptions): Promise<Preflight> {
  const progress = new Progress();
  const found = await preflight(model, { ...options, onProgress: progress.update }).finally(() => progress.finish());
  printWarnings(found.warnings);
  return found;
}

export function summarizePreflight(model: string, found: Preflight): string {
  const { elapsedMs, memoryBytes, diskBytes, layers, skipped, blocks } = found;
  const total = Object.values(elapsedMs).reduce((sum, ms) => sum + ms, 0);
  const phases = Object.entries(elapsedMs).map(([phase, ms]) => `${phase} ${formatMs(ms)}`);
  const rows = [
    ["time", `${formatMs(total)}: ${phases.join(", ")}`],
    ...describeTrials(found.trials),
    ["memory", memoryBytes === undefined ? "not known on this system" : formatBytes(memoryBytes)],
    ["disk", `${formatBytes(diskBytes)} of temporary files`],
    ["size", `${formatBytes(found.sourceBytes)} → ${formatBytes(found.bytes)} (${formatRatio(found.sizeRatio)})`],
    ["layers", `${layers} quantized in ${blocks} blocks; ${skipped} left in float`],
  ];
  const title = `${printable(model)}: a run over ${found.samples} samples, estimated from ${found.samplesRun}`;
  return [title, formatTable(rows), ""].join("\n");
}

function describeTrials({ fewest, most, eachMs }: Preflight["trials"]): readonly (readonly string[])[] {
  if (most === 0) return [];
  const further = `${formatMs((most - fewest) * eachMs)} more where all are close`;
  return [["trials", `${fewest} to ${most}, ${formatMs(eachMs)} each: ${further}`]];
}
