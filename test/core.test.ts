import { afterAll, describe, expect, it } from "vitest";
import {
  type CheckpointOptions,
  type CheckpointStore,
  type Engine,
  type ExternalReader,
  encodeModel,
  encodeStatistics,
  type Feeds,
  float32Tensor,
  type HeldTensor,
  joinChunks,
  type Model,
  measureShard,
  type OpenOptions,
  parseRecipe,
  type QuantizeTask,
  quantizeModel,
  type RunFeeds,
  readModel,
  readStatistics,
  type Session,
  type Shard,
  samplesOf,
} from "../src/index.js";
import { createRuntimeEngine } from "../src/node/index.js";
import { makeResidualNet } from "./networks.js";

const inner = createRuntimeEngine({ threads: 1 });
afterAll(() => inner.close());

/** An engine as a user writes one: every type that it needs is a public name. */
class CountingEngine implements Engine {
  readonly name = "counting";
  runs = 0;

  async open(model: Model, options?: OpenOptions): Promise<Session> {
    const session = await inner.open(model, options);
    const run = (feeds: RunFeeds, fetch?: readonly string[]) => {
      this.runs++;
      return session.run(feeds, fetch);
    };
    return { ...session, run };
  }

  hold(tensors: Feeds): Promise<ReadonlyMap<string, HeldTensor>> {
    return inner.hold(tensors);
  }

  release(tensors: Iterable<HeldTensor>): Promise<void> {
    return inner.release(tensors);
  }

  async close(): Promise<void> {}
}

/** A model as bytes, its tensors in a file of their own. */
function encoded(): { readonly bytes: Uint8Array; readonly tensors: Uint8Array } {
  const { chunks, externalChunks } = encodeModel(makeResidualNet().model, { externalLocation: "tensors" });
  return { bytes: joinChunks(chunks), tensors: joinChunks(externalChunks) };
}

describe("the public names of the core", () => {
  const { bytes, tensors } = encoded();
  const external: ExternalReader = { read: (_, offset, size) => tensors.subarray(offset, offset + size) };
  const model = readModel(bytes, external);
  const [input] = model.graph.inputs;
  const shape = input.type.kind === "tensor" ? (input.type.shape ?? []) : [];
  const size = shape.map((length) => (typeof length === "number" ? length : 1));
  const picture = (seed: number) => {
    const values = Array.from({ length: size.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * seed));
    return { [input.name]: float32Tensor(size, values) };
  };

  it("are enough to quantize a model", async () => {
    const engine = new CountingEngine();
    const samples = samplesOf(model, [picture(1), picture(2), picture(3)], { description: "waves" });
    const recipe = parseRecipe({ formats: [{ weight: { bits: 4 } }], steps: ["bc"], samples: 2 });
    const { model: small, report } = await quantizeModel({ model, recipe, samples, engine });
    expect(report.data).toMatchObject({ description: "waves", samples: 2, available: 3 });
    expect(report.layers.length).toBeGreaterThan(0);
    expect(engine.runs).toBeGreaterThan(0);
    const session = await engine.open(readModel(joinChunks(encodeModel(small).chunks)));
    expect((await session.run(new Map(Object.entries(picture(1))))).outputs.size).toBe(1);
    await session.close();
  });

  it("are enough to calibrate in shards", async () => {
    const engine = new CountingEngine();
    const samples = samplesOf(model, [picture(1), picture(2), picture(3)]);
    const task: QuantizeTask = { model, recipe: parseRecipe({}), samples, engine };
    const shard: Shard = { index: 1, count: 1 };
    const { statistics } = await measureShard({ ...task, shard });
    const shards = [await readStatistics(await encodeStatistics(statistics))];
    const [plain, merged] = [await quantizeModel(task), await quantizeModel({ ...task, shards })];
    expect(joinChunks(encodeModel(merged.model).chunks)).toEqual(joinChunks(encodeModel(plain.model).chunks));
  });

  it("are enough to keep finished blocks, and to go on from them", async () => {
    const pieces = new Map<string, Uint8Array>();
    const store: CheckpointStore = {
      name: "a map",
      nameOf: (piece) => piece,
      list: async () => [...pieces.keys()],
      read: async (piece) => pieces.get(piece) ?? new Uint8Array(),
      write: async (piece, bytes) => void pieces.set(piece, bytes),
      clear: async () => pieces.clear(),
    };
    const samples = samplesOf(model, [picture(1), picture(2)]);
    const task: QuantizeTask = { model, recipe: parseRecipe({ steps: ["bc"] }), samples, engine: new CountingEngine() };
    const plain = await quantizeModel({ ...task, checkpoint: { store } });
    const [last] = [...pieces.keys()].reverse();
    pieces.delete(last);
    let found = 0;
    const checkpoint: CheckpointOptions = { store, resume: true, onResume: (blocks) => (found = blocks) };
    const resumed = await quantizeModel({ ...task, checkpoint });
    expect(found).toBe(plain.report.blocks - 1);
    expect(joinChunks(encodeModel(resumed.model).chunks)).toEqual(joinChunks(encodeModel(plain.model).chunks));
  });

  it("check samples against the model", async () => {
    const reading = samplesOf(model, [{ nothing: float32Tensor([1], [1]) }])
      .read([0])
      [Symbol.asyncIterator]();
    await expect(reading.next()).rejects.toMatchObject({ code: "data/mismatch", place: { field: input.name } });
  });
});
