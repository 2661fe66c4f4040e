/** Time inside the runtime for one sample, in milliseconds. */
export interface Latency {
  readonly median: number;
  readonly p95: number;
}

/** The first runs of a session fill caches and allocate: they are not what users wait for. */
const warmUpRuns = 3;

export function summarizeLatency(elapsedMs: readonly number[]): Latency {
  const warm = elapsedMs.length > 2 * warmUpRuns ? elapsedMs.slice(warmUpRuns) : elapsedMs;
  const sorted = [...warm].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), p95: quantile(sorted, 0.95) };
}

/** Linear between the neighbours; 0 of nothing. */
export function quantile(sorted: readonly number[], share: number): number {
  if (sorted.length === 0) return 0;
  const position = share * (sorted.length - 1);
  const below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (position - below) * (sorted[above] - sorted[below]);
}
