import type { TrialCounts } from "../quantization.js";

/** One session, or the handing over of what is fed: when each batch was done, in milliseconds. */
export interface Pass {
  readonly phase: string;
  readonly doneMs: readonly number[];
}

/** What a run over a few samples took. */
export interface Rehearsed {
  readonly samples: number;
  /** By phase, in milliseconds. */
  readonly elapsedMs: Readonly<Record<string, number>>;
  readonly passes: readonly Pass[];
  /** What solving would take besides where something stood in for it, in milliseconds. */
  readonly skippedMs: number;
  /** When each sample on which the result was measured was done, in milliseconds. */
  readonly measuredMs: readonly number[];
  /** When the timing of the result began, and when each turn of it was done, in milliseconds. */
  readonly turnsMs: readonly number[];
}

/** What trials before a run would take. */
export interface TrialEstimate {
  /** How many there are where nothing comes near what is tried first. */
  readonly fewest: number;
  /** How many there are where all are close. */
  readonly most: number;
  /** What one takes, in milliseconds. */
  readonly eachMs: number;
}

/** How often a whole run does what repeats. */
export interface RunSize {
  readonly samples: number;
  /** Samples on which the result is measured. */
  readonly measured: number;
  /** Turns in which it is timed. */
  readonly turns: number;
  readonly trials: TrialCounts;
}

/** The phases that a trial consists of. */
const repeatedPhases: ReadonlySet<string> = new Set(["calibrate", "quantize", "refine"]);

/** The phases that run all batches; in others a session runs a sample or two. */
const batchPhases: ReadonlySet<string> = new Set(["calibrate", "refine"]);

/**
 * What each phase of a whole run takes, in milliseconds: linear in the number of samples. What comes before a batch is done
 * for the first time is done once; what lies between one batch and the next repeats.
 *
 * @param again a second time, for trials and what follows them: by then the program has warmed up
 */
export function estimatePhases(
  rehearsed: Rehearsed,
  run: RunSize,
  again: Rehearsed = rehearsed,
): Readonly<Record<string, number>> {
  const { elapsedMs, measuredMs, turnsMs } = rehearsed;
  const { trials } = run;
  const last = trials.fewest > 0 ? again : rehearsed;
  const repeated = Object.entries(last.elapsedMs).filter(([phase]) => repeatedPhases.has(phase));
  const phases = new Map([...Object.entries(elapsedMs), ...repeated]);
  const add = (phase: string, ms: number) => phases.set(phase, (phases.get(phase) ?? 0) + ms);
  for (const phase of batchPhases) if (phases.has(phase)) add(phase, furtherMs(last, phase, run.samples));
  if (phases.has("refine")) add("refine", last.skippedMs);
  if (trials.fewest > 0) add("try", trialMs(rehearsed, trials) + (trials.fewest - 1) * trialMs(again, trials));
  add("measure", (run.measured - measuredMs.length) * usualInterval(measuredMs));
  add("measure", (run.turns + 1 - turnsMs.length) * usualInterval(turnsMs));
  return Object.fromEntries(phases);
}

/** What one trial takes, in milliseconds: ranges, rounding and a walk on some samples, and two networks on others. */
export function trialMs(rehearsed: Rehearsed, { fitted, held }: TrialCounts): number {
  const { elapsedMs, skippedMs, measuredMs } = rehearsed;
  const onFitted = (phase: string) => (elapsedMs[phase] ?? 0) + furtherMs(rehearsed, phase, fitted);
  return (
    onFitted("calibrate") +
    (elapsedMs.quantize ?? 0) +
    onFitted("refine") +
    skippedMs +
    held * usualInterval(measuredMs)
  );
}

/**
 * What a phase takes longer on so many samples. A pass over fewer batches than others of its phase was given up, and will
 * be again.
 */
function furtherMs({ passes, samples }: Rehearsed, phase: string, wanted: number): number {
  const own = passes.filter((pass) => pass.phase === phase);
  const batches = Math.max(0, ...own.map(({ doneMs }) => doneMs.length));
  const perPass = own.filter(({ doneMs }) => doneMs.length === batches).map(({ doneMs }) => meanInterval(doneMs));
  return perPass.reduce((sum, ms) => sum + ms, 0) * batches * (wanted / samples - 1);
}

/** The mean time from one to the next; 0 where there is no next. */
function meanInterval(times: readonly number[]): number {
  return times.length < 2 ? 0 : (times[times.length - 1] - times[0]) / (times.length - 1);
}

/** The middle one of the times from one to the next: one that took long for other reasons does not count. */
function usualInterval(times: readonly number[]): number {
  const intervals = times.slice(1).map((time, i) => time - times[i]);
  return intervals.sort((a, b) => a - b)[Math.floor(intervals.length / 2)] ?? 0;
}

/** What was resident at a moment, held tensors included. */
export interface MemorySample {
  readonly residentBytes: number;
  readonly heldBytes: number;
}

/** Released tensors stay until the process that runs the models collects its garbage: about so much of what it holds. */
const garbage = 0.3;

/**
 * The most that a whole run has resident at a moment: held tensors grow with the samples, as far as they stay in memory.
 *
 * @param ratio samples of the whole run by those that were run
 * @param mostHeldBytes what held tensors may take in memory
 */
export function peakBytes(samples: readonly MemorySample[], ratio: number, mostHeldBytes: number): number {
  const inMemory = (heldBytes: number) => (1 + garbage) * Math.min(heldBytes, mostHeldBytes);
  return samples.reduce((peak, { residentBytes, heldBytes }) => {
    const bytes = residentBytes - inMemory(heldBytes) + inMemory(heldBytes * ratio);
    return Math.max(peak, Math.round(bytes));
  }, 0);
}
