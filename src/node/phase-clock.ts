import type { CompensatePhase } from "../compensation.js";
import type { Phase } from "../pipeline.js";

/** The phases of a run, the last of which holds the result against the original. */
export type RunPhase = Phase | CompensatePhase | "measure";

/** Time spent in each phase. */
export class PhaseClock {
  readonly #elapsedMs = new Map<string, number>();
  readonly #onProgress: ((phase: RunPhase, done: number) => void) | undefined;
  #phase: RunPhase | undefined;
  #since = performance.now();

  constructor(onProgress: ((phase: RunPhase, done: number) => void) | undefined) {
    this.#onProgress = onProgress;
  }

  /** The phase that is under way. */
  get phase(): RunPhase | undefined {
    return this.#phase;
  }

  readonly enter = (phase: RunPhase, done: number): void => {
    if (phase !== this.#phase) this.#close(phase);
    this.#onProgress?.(phase, done);
  };

  /** @returns milliseconds by phase */
  finish(): Readonly<Record<string, number>> {
    this.#close(undefined);
    return Object.fromEntries(this.#elapsedMs);
  }

  #close(next: RunPhase | undefined): void {
    const now = performance.now();
    if (this.#phase !== undefined) {
      this.#elapsedMs.set(this.#phase, (this.#elapsedMs.get(this.#phase) ?? 0) + now - this.#since);
    }
    this.#phase = next;
    this.#since = now;
  }
}
