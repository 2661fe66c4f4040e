import type { ModelSource } from "./model-source.js";

/** Why the small model is not run; undefined where it is. */
export function whyUnchecked(wanted: boolean | undefined, source: ModelSource): string | undefined {
  if (wanted === false) return "as was asked for";
  const needed = bytesToRun(source);
  const available = process.availableMemory();
  if (needed <= available) return undefined;
  return `beside the original it would take ${asGigabytes(needed)} of memory, and ${asGigabytes(available)} are free`;
}

/**
 * What it takes to run a small model beside the original: in both, the runtime holds the weights as floats, and arranges
 * those of the small one anew while it still holds what it has unpacked.
 */
function bytesToRun({ model }: ModelSource): number {
  const weights = [...model.graph.initializers.values()].reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  return 3 * weights;
}

function asGigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
