import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { memoryStore } from "../../test/memory-store.js";
import { RecoupError } from "../errors.js";
import type { SolvedSite } from "../walk/solve-sites.js";
import { Checkpoint, type CheckpointOptions } from "./checkpoint.js";
import type { RunDescription } from "./run-description.js";

const run: RunDescription = {
  version: "1.2.3",
  model: "a".repeat(64),
  recipe: { steps: [] },
  data: "b".repeat(64),
  statistics: null,
  batchSize: 16,
  engine: "an engine",
};
const ranges = new Map([
  ["x", { low: -1, high: 0.1 }],
  ["empty", { low: Number.POSITIVE_INFINITY, high: Number.NEGATIVE_INFINITY }],
]);
const trial = {
  name: "target float",
  kl: 0.25,
  sqnrDb: Number.POSITIVE_INFINITY,
  samples: [{ kl: 0.25, error: 0, others: [0.5] }],
  forms: { nbc: ["linear"] },
};
const blocks: readonly (readonly SolvedSite[])[] = [
  [
    {
      step: 0,
      value: "y",
      record: { label: "Y", kind: "solved", errorBefore: 2, errorAfter: Number.NaN, remark: "so so" },
      solution: { codes: Int8Array.of(1, -2), scales: Float32Array.of(0.1), groupSize: 2 },
    },
    { step: 1, value: "y", record: { label: "Y", kind: "skipped", reason: "it is good" }, solution: undefined },
  ],
  [],
  [
    {
      step: 1,
      value: "z",
      record: { label: "Z", kind: "solved", errorBefore: 1, errorAfter: 0 },
      solution: Float64Array.of(1 / 3),
    },
  ],
];

const open = (options: CheckpointOptions | undefined, description = run) =>
  Checkpoint.open(options, async () => description);
const unexpected = async (): Promise<never> => {
  throw new Error("this was found before");
};

/** What a run of three blocks keeps, of which the first two were tried before. */
async function keepAll(checkpoint: Checkpoint): Promise<void> {
  await checkpoint.ranges(async () => ranges);
  const tried = await checkpoint.walk("01");
  for (const [i, solved] of blocks.slice(0, 2).entries()) await tried.onBlock?.(i, solved);
  await checkpoint.trial("01", async () => trial);
  const { onBlock } = await checkpoint.walk();
  for (const [i, solved] of blocks.entries()) await onBlock?.(i, solved);
}

async function filled() {
  const store = memoryStore();
  await keepAll(await open({ store }));
  return store;
}

const full = new RecoupError("file/unwritable", "cannot be written (ENOSPC)");

describe("Checkpoint", () => {
  it("gives back what a run has kept", async () => {
    const { pieces } = await filled();
    const told: number[] = [];
    const checkpoint = await open({ store: memoryStore(pieces), resume: true, onResume: (count) => told.push(count) });
    expect(told).toEqual([5]);
    expect(await checkpoint.ranges(unexpected)).toStrictEqual(ranges);
    expect(await checkpoint.trial("01", unexpected)).toStrictEqual(trial);
    expect((await checkpoint.walk("01")).finished).toEqual(blocks.slice(0, 2));
    expect((await checkpoint.walk("02")).finished).toEqual([]);
    const { finished } = await checkpoint.walk();
    expect(finished).toEqual(blocks);
    // As JSON too: reports are the same.
    expect(JSON.stringify(finished)).toBe(JSON.stringify(blocks));
    expect(checkpoint.warnings).toEqual([]);
  });

  it("writes nothing before a block is finished, and each piece once", async () => {
    const written: string[] = [];
    const store = memoryStore([["old", new Uint8Array()]], (piece) => written.push(piece));
    const told: number[] = [];
    const checkpoint = await open({ store, onCheckpoint: (count) => told.push(count) });
    await checkpoint.ranges(async () => ranges);
    expect([...store.pieces.keys()]).toEqual(["old"]);
    await keepAll(checkpoint);
    expect(written).toEqual([
      ...["run", "ranges", "try-01-block-0001", "try-01-block-0002", "try-01"],
      ...["block-0001", "block-0002", "block-0003"],
    ]);
    expect([...store.pieces.keys()]).toEqual(written);
    expect(told).toEqual([1, 2, 3, 4, 5]);
  });

  it("goes on behind the last block that follows on the others", async () => {
    const { pieces } = await filled();
    pieces.delete("block-0002");
    const store = memoryStore(pieces);
    const checkpoint = await open({ store, resume: true });
    const { finished, onBlock } = await checkpoint.walk();
    expect(finished).toEqual(blocks.slice(0, 1));
    await onBlock?.(1, blocks[1]);
    expect((await (await open({ store, resume: true })).walk()).finished).toEqual(blocks);
  });

  it("starts from the beginning where nothing is there, or only what a description is missing to", async () => {
    const { pieces } = await filled();
    pieces.delete("run");
    for (const store of [memoryStore(), memoryStore(pieces)]) {
      const told: number[] = [];
      const checkpoint = await open({ store, resume: true, onResume: (count) => told.push(count) });
      expect(told).toEqual([0]);
      expect((await checkpoint.walk()).finished).toEqual([]);
      await keepAll(checkpoint);
      expect((await (await open({ store, resume: true })).walk()).finished).toEqual(blocks);
    }
  });

  it("does not know the model before it has to", async () => {
    const checkpoint = await Checkpoint.open({ store: memoryStore() }, unexpected);
    expect(await checkpoint.ranges(async () => ranges)).toEqual(ranges);
    const nothing = await Checkpoint.open(undefined, unexpected);
    expect(await nothing.ranges(async () => ranges)).toEqual(ranges);
    expect(await nothing.walk()).toEqual({});
  });

  it("refuses another run, and leaves its pieces alone", async () => {
    const store = await filled();
    const before = [...store.pieces];
    await expect(open({ store, resume: true }, { ...run, batchSize: 1 })).rejects.toMatchObject({
      code: "checkpoint/mismatch",
      place: { file: "memory", field: "batchSize" },
    });
    expect([...store.pieces]).toEqual(before);
  });

  it("says before any work what is known to differ, and no more", async () => {
    const store = await filled();
    const { batchSize: _, ...known } = run;
    const check = (options: CheckpointOptions | undefined, change: Partial<RunDescription> = {}) =>
      Checkpoint.check(options, async () => ({ ...known, ...change }));
    await expect(check({ store, resume: true }, { model: "c".repeat(64) })).rejects.toMatchObject({
      code: "checkpoint/mismatch",
      place: { file: "memory", field: "model" },
    });
    await check({ store, resume: true });
    await check({ store }, { version: "2" });
    await check({ store: memoryStore(), resume: true }, { version: "2" });
    await check(undefined);
  });

  it("refuses a block of another run and one by another name", async () => {
    const { pieces } = await filled();
    const other = memoryStore();
    await keepAll(await open({ store: other }, { ...run, batchSize: 1 }));
    for (const bytes of [other.pieces.get("block-0002"), pieces.get("block-0003")]) {
      const store = memoryStore([...pieces, ["block-0002", bytes as Uint8Array]]);
      const checkpoint = await open({ store, resume: true });
      await expect(checkpoint.walk()).rejects.toMatchObject({
        code: "checkpoint/malformed",
        message: expect.stringMatching(
          /: delete it, and --resume does again what it held; without --resume .* starts over$/,
        ),
        place: { file: "memory of block-0002" },
      });
    }
  });
});

describe("a place that cannot be written to", () => {
  it("is a warning, and is tried again", async () => {
    let isFull = true;
    const store = memoryStore([], () => {
      if (isFull) throw full;
    });
    const told: number[] = [];
    const checkpoint = await open({ store, onCheckpoint: (count) => told.push(count) });
    await checkpoint.ranges(async () => ranges);
    const { onBlock } = await checkpoint.walk();
    await onBlock?.(0, blocks[0]);
    await onBlock?.(1, blocks[1]);
    isFull = false;
    await onBlock?.(2, blocks[2]);
    expect(told).toEqual([3]);
    expect(checkpoint.warnings).toEqual([expect.stringMatching(/^memory: cannot be written \(ENOSPC\): /)]);
    const resumed = await open({ store, resume: true });
    expect(await resumed.ranges(unexpected)).toEqual(ranges);
    expect((await resumed.walk()).finished).toEqual(blocks);
  });

  it("does not hide a defect", async () => {
    const store = memoryStore([], () => {
      throw new TypeError("a defect");
    });
    await expect(keepAll(await open({ store }))).rejects.toThrow(TypeError);
  });
});

describe("a damaged piece", () => {
  const resume = async (pieces: Iterable<readonly [string, Uint8Array]>) => {
    const checkpoint = await open({ store: memoryStore(pieces), resume: true });
    return [
      await checkpoint.ranges(unexpected),
      await checkpoint.trial("01", unexpected),
      (await checkpoint.walk()).finished,
    ];
  };

  it.each(["run", "ranges", "try-01", "block-0001"])("is refused: %s", async (name) => {
    const { pieces } = await filled();
    const bytes = pieces.get(name) as Uint8Array;
    const damaged = [
      new Uint8Array(),
      new TextEncoder().encode("this is no checkpoint\n".repeat(20)),
      ...[10, 100, bytes.length - 30, bytes.length - 1].map((length) => bytes.subarray(0, length)),
    ];
    for (const other of damaged) {
      await expect(resume([...pieces, [name, other]])).rejects.toMatchObject({
        code: "checkpoint/malformed",
        exitCode: 2,
        message: expect.stringMatching(/^is .*(: | )without --resume the run starts over$/),
        place: { file: `memory of ${name}` },
      });
      const store = memoryStore([...pieces, [name, other]]);
      const { batchSize: _, ...known } = run;
      await expect(Checkpoint.check({ store, resume: true }, async () => known)).rejects.toMatchObject({
        place: { file: `memory of ${name}` },
        message: expect.not.stringContaining("zip"),
      });
    }
  });

  it("is refused, or is what was written, where bytes were changed", async () => {
    const { pieces } = await filled();
    const expected = await resume(pieces);
    const names = fc.constantFrom("run", "ranges", "try-01", "block-0001", "block-0003");
    await fc.assert(
      fc.asyncProperty(names, fc.nat(), fc.nat(255), async (name, place, value) => {
        const bytes = (pieces.get(name) as Uint8Array).slice();
        bytes[place % bytes.length] = value;
        try {
          expect(await resume([...pieces, [name, bytes]])).toEqual(expected);
        } catch (error) {
          expect(error).toBeInstanceOf(RecoupError);
        }
      }),
      { numRuns: 300, seed: 1 },
    );
  });
});
