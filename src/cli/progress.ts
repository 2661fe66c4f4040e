import { printable } from "../errors.js";
import { formatMs } from "./format.js";

/** At most this many redraws a second. */
const redrawMs = 100;

/**
 * Progress on stderr: one line that is redrawn on a terminal, with the share that is done and an estimate of the rest;
 * elsewhere a line when a phase ends.
 */
export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #isTerminal: boolean;
  #phase = "";
  #phaseStart = 0;
  #lastDraw = 0;

  constructor(stream: NodeJS.WriteStream = process.stderr) {
    this.#stream = stream;
    this.#isTerminal = stream.isTTY === true && process.env.CI === undefined && process.env.TERM !== "dumb";
  }

  /** @param done share of the phase that is done, from 0 to 1 */
  readonly update = (phase: string, done: number): void => {
    const now = performance.now();
    if (phase !== this.#phase) {
      this.finish();
      this.#phase = phase;
      this.#phaseStart = now;
    }
    if (!this.#isTerminal || now - this.#lastDraw < redrawMs) return;
    this.#lastDraw = now;
    const elapsed = now - this.#phaseStart;
    const rest = done > 0.02 && done < 1 ? `, ${formatMs((elapsed / done) * (1 - done))} left` : "";
    this.#stream.write(`\r\u001b[K${phase} ${Math.round(100 * done)} %${rest}`);
  };

  /** Ends the line of the current phase. */
  finish(): void {
    if (this.#phase === "") return;
    if (this.#isTerminal) this.#stream.write("\r\u001b[K");
    else this.#stream.write(`${this.#phase}: ${formatMs(performance.now() - this.#phaseStart)}\n`);
    this.#phase = "";
  }
}

/** Lines about what was assumed, on stderr. */
export function printWarnings(
  warnings: readonly string[],
  stream: Pick<NodeJS.WriteStream, "write"> = process.stderr,
): void {
  for (const warning of warnings) stream.write(`warning: ${printable(warning)}\n`);
}
