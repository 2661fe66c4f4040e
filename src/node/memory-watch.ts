import type { MemorySample } from "./extrapolate.js";
import { residentBytes } from "./resident-memory.js";

/** How often the memory is looked at. */
const intervalMs = 50;

/** Looks at the memory of all processes of Recoup until it is stopped. */
export class MemoryWatch {
  readonly #heldNow: () => number;
  readonly #samples: MemorySample[] = [];
  readonly #timer: NodeJS.Timeout;

  /** @param heldNow bytes of held tensors */
  constructor(heldNow: () => number) {
    this.#heldNow = heldNow;
    this.#timer = setInterval(this.look, intervalMs);
    this.#timer.unref();
  }

  /** Empty where the system does not tell. */
  get samples(): readonly MemorySample[] {
    return this.#samples;
  }

  /** Looks now too: while this process computes, the clock cannot. */
  readonly look = (): void => {
    const resident = residentBytes();
    if (resident !== undefined) this.#samples.push({ residentBytes: resident, heldBytes: this.#heldNow() });
  };

  stop(): void {
    clearInterval(this.#timer);
  }
}
