import { printable } from "../errors.js";

/** Lines on stderr about a checkpoint: what a run goes on from, and how to go on with one that broke off. */
export class CheckpointNotes {
  readonly #folder: string;
  readonly #stream: Pick<NodeJS.WriteStream, "write">;
  #blocks: number | undefined;

  constructor(folder: string, stream: Pick<NodeJS.WriteStream, "write"> = process.stderr) {
    this.#folder = printable(folder);
    this.#stream = stream;
  }

  /** @param blocks finished ones that the run found */
  readonly resumed = (blocks: number): void => {
    this.#blocks = blocks;
    const folder = this.#folder;
    if (blocks > 0) this.#stream.write(`${folder}: goes on behind ${textOf(blocks)}\n`);
    else this.#stream.write(`warning: ${folder} holds no finished block: the run starts from the beginning\n`);
  };

  /** @param blocks finished ones that are kept now */
  readonly kept = (blocks: number): void => {
    this.#blocks = blocks;
  };

  /** Nothing is said where nothing is kept. */
  brokeOff(): void {
    if (!this.#blocks) return;
    const rest = "the same command with --resume goes on from there";
    this.#stream.write(`${this.#folder} keeps ${textOf(this.#blocks)}: ${rest}\n`);
  }
}

function textOf(blocks: number): string {
  return blocks === 1 ? "1 finished block" : `${blocks} finished blocks`;
}
