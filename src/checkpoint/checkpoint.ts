import type { ZodType, z } from "zod";
import { fingerprintOf } from "../data/fingerprint.js";
import { RecoupError, withPlace } from "../errors.js";
import type { ValueName } from "../graph/graph.js";
import type { Range } from "../math/distribution.js";
import type { WalkOptions } from "../walk/walk.js";
import { blockSchema, rangesSchema, trialSchema } from "./content.js";
import { checkContent, decodePiece, encodePiece, type Piece } from "./piece.js";
import { jsonOf, type RunDescription, refuseOtherRun } from "./run-description.js";
import type { CheckpointStore } from "./store.js";

/** Where a run keeps what it has finished, and whether it goes on from there. */
export interface CheckpointOptions {
  readonly store: CheckpointStore;
  /** Go on from what the store holds, if it is of the same run; where it holds nothing, from the beginning. */
  readonly resume?: boolean;
  /** Called with the number of finished blocks that the run goes on from. */
  readonly onResume?: (blocks: number) => void;
  /** Called with the number of finished blocks that the store holds, after each that is added. */
  readonly onCheckpoint?: (blocks: number) => void;
}

/** What a walk needs to know. */
type WalkCheckpoint = Pick<WalkOptions, "finished" | "onBlock">;

type Trial = z.output<typeof trialSchema>;

const descriptionPiece = "run";

/**
 * What a run has finished, so that another can go on from there: ranges, trials of recipes, and blocks of walks. Nothing is
 * written before a block is finished; then what an earlier run has left is replaced.
 */
export class Checkpoint {
  readonly #options: CheckpointOptions | undefined;
  readonly #describe: () => Promise<RunDescription>;
  readonly #warnings: string[] = [];
  /** Names of the pieces that the store holds of this run. */
  readonly #pieces: Set<string>;
  /** Pieces that are still to be written, in order. */
  readonly #pending = new Map<string, unknown>();
  #described: Promise<RunDescription> | undefined;

  private constructor(
    options: CheckpointOptions | undefined,
    describe: () => Promise<RunDescription>,
    pieces: Iterable<string>,
  ) {
    this.#options = options;
    this.#describe = describe;
    this.#pieces = new Set(pieces);
  }

  /**
   * Refuses to go on from what a store holds where that can be said before anything is computed: it is of another run, or a
   * piece of it is damaged.
   *
   * @param known what is known of the run
   * @throws RecoupError as `open`
   */
  static async check(
    options: CheckpointOptions | undefined,
    known: () => Promise<Partial<RunDescription>>,
  ): Promise<void> {
    if (!options?.resume) return;
    const { store } = options;
    const found = await store.list();
    if (!found.includes(descriptionPiece)) return;
    const there = await readPiece(store, descriptionPiece);
    refuseOtherDescription(store, there.content, await known());
    const run = await keyOf(there.content);
    for (const name of found) await refuseOtherKey(store, await readPiece(store, name), run);
  }

  /**
   * @param options without them nothing is kept
   * @param describe called at most once, when it is needed: it reads the whole model
   * @throws RecoupError `checkpoint/mismatch` where the store holds another run, `checkpoint/malformed`, and as the store
   */
  static async open(
    options: CheckpointOptions | undefined,
    describe: () => Promise<RunDescription>,
  ): Promise<Checkpoint> {
    if (!options?.resume) return new Checkpoint(options, describe, []);
    const { store, onResume } = options;
    const found = await store.list();
    const isThere = found.includes(descriptionPiece);
    const checkpoint = new Checkpoint(options, describe, isThere ? found : []);
    if (isThere) {
      const there = await readPiece(store, descriptionPiece);
      refuseOtherDescription(store, there.content, await checkpoint.#description());
    }
    onResume?.(checkpoint.#blockCount());
    return checkpoint;
  }

  /** What a user should know. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /**
   * The ranges of activations, as they were found before or are found now.
   *
   * @param trial its number, for a trial
   * @throws RecoupError `checkpoint/malformed`, and as the store
   */
  async ranges(
    find: () => Promise<ReadonlyMap<ValueName, Range>>,
    trial?: string,
  ): Promise<ReadonlyMap<ValueName, Range>> {
    const list = await this.#once(nameOfPiece("ranges", trial), rangesSchema, async () =>
      [...(await find())].map(([value, { low, high }]): [string, number, number] => [value, low, high]),
    );
    return new Map(list.map(([value, low, high]) => [value, { low, high }]));
  }

  /**
   * What a recipe led to, as it was found before or is found now.
   *
   * @param number of the trial
   * @throws RecoupError `checkpoint/malformed`, and as the store
   */
  async trial(number: string, find: () => Promise<Trial>): Promise<Trial> {
    return this.#once<Trial>(`try-${number}`, trialSchema, find);
  }

  /**
   * The finished blocks of a walk, and what keeps those that follow.
   *
   * @param trial its number, for a trial
   * @throws RecoupError `checkpoint/malformed`, and as the store
   */
  async walk(trial?: string): Promise<WalkCheckpoint> {
    const options = this.#options;
    if (options === undefined) return {};
    const nameOf = (index: number) => nameOfBlock(index, trial);
    const finished = [];
    while (this.#pieces.has(nameOf(finished.length))) {
      finished.push(await this.#read(options, nameOf(finished.length), blockSchema));
    }
    return {
      finished,
      onBlock: async (index, solved) => {
        this.#pending.set(nameOf(index), solved);
        if (await this.#writePending(options)) options.onCheckpoint?.(this.#blockCount());
      },
    };
  }

  async #once<Content>(name: string, schema: ZodType<Content>, find: () => Promise<Content>): Promise<Content> {
    const options = this.#options;
    if (options === undefined) return find();
    if (this.#pieces.has(name)) return this.#read(options, name, schema);
    const content = await find();
    this.#pending.set(name, content);
    if (this.#pieces.size > 0) await this.#writePending(options);
    return content;
  }

  /**
   * What cannot be written now is tried again with the next block, which is of no use without it.
   *
   * @returns whether all is written
   */
  async #writePending({ store }: CheckpointOptions): Promise<boolean> {
    try {
      if (this.#pieces.size === 0) {
        await store.clear();
        await this.#write(store, descriptionPiece, jsonOf(await this.#description()));
      }
      for (const [name, content] of this.#pending) {
        await this.#write(store, name, content);
        this.#pending.delete(name);
      }
      return true;
    } catch (error) {
      if (!(error instanceof RecoupError)) throw error;
      const warning = `${store.name}: ${error.message}: were the run to break off, it could not go on from there`;
      if (this.#warnings.length === 0) this.#warnings.push(warning);
      return false;
    }
  }

  async #write(store: CheckpointStore, name: string, content: unknown): Promise<void> {
    await store.write(name, await encodePiece({ run: await this.#runKey(), name, content }));
    this.#pieces.add(name);
  }

  async #read<Content>({ store }: CheckpointOptions, name: string, schema: ZodType<Content>): Promise<Content> {
    const piece = await readPiece(store, name);
    await refuseOtherKey(store, piece, await this.#runKey());
    return advising(store, name, () => checkContent(schema, piece.content));
  }

  #description(): Promise<RunDescription> {
    this.#described ??= this.#describe();
    return this.#described;
  }

  /** Pieces of one run have the same. */
  async #runKey(): Promise<string> {
    return keyOf(jsonOf(await this.#description()));
  }

  #blockCount(): number {
    return [...this.#pieces].filter((name) => blockName.test(name)).length;
  }
}

/** Pieces of runs of the same description have the same. */
function keyOf(description: unknown): Promise<string> {
  return fingerprintOf([JSON.stringify(description)]);
}

function refuseOtherDescription(store: CheckpointStore, there: unknown, here: Partial<RunDescription>): void {
  try {
    refuseOtherRun(there, here);
  } catch (error) {
    throw withPlace(error, { file: store.name });
  }
}

async function readPiece(store: CheckpointStore, name: string): Promise<Piece> {
  const bytes = await store.read(name);
  return advising(store, name, async () => {
    const piece = await decodePiece(bytes);
    if (piece.name !== name) throw new RecoupError("checkpoint/malformed", `is ${piece.name} by another name`);
    return piece;
  });
}

function refuseOtherKey(store: CheckpointStore, { name, run }: Piece, key: string): Promise<void> {
  return advising(store, name, () => {
    // Of the description it is said better in what the runs differ.
    if (name === descriptionPiece || run === key) return;
    throw new RecoupError("checkpoint/malformed", "is of another run than the rest");
  });
}

/** Names the piece in what is thrown, and says what to do. */
async function advising<Result>(
  store: CheckpointStore,
  piece: string,
  work: () => Result | Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof RecoupError)) throw error;
    const again = piece === descriptionPiece ? "" : "delete it, and --resume does again what it held; ";
    const message = `${error.message}: ${again}without --resume the run starts over`;
    throw new RecoupError(error.code, message, { ...error.place, file: store.nameOf(piece) }, { cause: error });
  }
}

const blockName = /block-\d+$/;

function nameOfBlock(index: number, trial: string | undefined): string {
  return nameOfPiece(`block-${String(index + 1).padStart(4, "0")}`, trial);
}

function nameOfPiece(name: string, trial: string | undefined): string {
  return trial === undefined ? name : `try-${trial}-${name}`;
}
