import { afterAll, describe, expect, it } from "vitest";
import { memoryStore } from "../../test/memory-store.js";
import { refusing, someFloats, type TestModel } from "../../test/models.js";
import { makeResidualNet, makeTransformer } from "../../test/networks.js";
import { samplesOf } from "../data/samples-of.js";
import type { Engine } from "../engine/engine.js";
import { measureShard } from "../measure-shard.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { encodeModel, joinChunks } from "../onnx/model.js";
import { type QuantizeOutcome, type QuantizeTask, quantizeModel } from "../pipeline.js";
import { parseRecipe, type RecipeInput } from "../recipe/recipe.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** Enough for trials of the target: a quarter of them are held back. */
const sampleCount = 20;

const gptq = { bits: 3, rounding: { use: "gptq", target: "float" } } as const;
const recipes: readonly (readonly [about: string, recipe: RecipeInput])[] = [
  ["GPTQ and bias compensation", { formats: [{ weight: gptq }], steps: ["bc"] }],
  ["GPTQ of an open target", { formats: [{ weight: { bits: 3, rounding: "gptq" } }] }],
  [
    "activations of 4 bits",
    { formats: [{ weight: { ...gptq, bits: 4 }, activation: { bits: 4, range: "minmax" } }], steps: ["bc"] },
  ],
];
const networks = [
  ["residual", makeResidualNet],
  ["transformer", makeTransformer],
] as const;
const cases = networks.flatMap(([network, make]) =>
  recipes.map(([about, recipe]) => [about, network, make(), recipe] as const),
);

describe("a run that goes on", () => {
  it.each(cases)(
    "ends as one without a stop, and measures nothing again: %s, %s",
    async (_about, _net, given, recipe) => {
      const counting = countRuns(engine);
      const task = taskOf(given, recipe, counting.engine);
      // Where nothing is there a run starts from the beginning; it has looked for something once it has planned.
      let planned = 0;
      const onResume = () => (planned = counting.runs());
      const runsAt = new Map<string, number>();
      const store = memoryStore([], (piece) => runsAt.set(piece, counting.runs()));
      const full = await quantizeModel({ ...task, checkpoint: { store, resume: true, onResume } });
      const total = counting.runs();
      expect(bytesOf(await quantizeModel(task))).toEqual(bytesOf(full));

      const pieces = [...store.pieces];
      const first = pieces.findIndex(([name]) => name.endsWith("block-0001"));
      for (const cut of [first, Math.floor(pieces.length / 2), pieces.length - 1]) {
        const written: string[] = [];
        const stopped = memoryStore(pieces.slice(0, cut + 1), (piece) => written.push(piece));
        const before = counting.runs();
        const resumed = await quantizeModel({ ...task, checkpoint: { store: stopped, resume: true } });
        expect(bytesOf(resumed)).toEqual(bytesOf(full));
        expect(JSON.stringify(resumed.report)).toBe(JSON.stringify(full.report));
        expect(written).toEqual(pieces.slice(cut + 1).map(([name]) => name));
        const [name] = pieces[cut];
        expect(counting.runs() - before).toBe(planned + total - (runsAt.get(name) ?? 0));
      }
    },
  );

  it("takes ranges of shards, and refuses to go on with others", async () => {
    const task = taskOf(makeResidualNet(1), { steps: ["bc"] }, engine);
    const shard = { index: 1, count: 1 };
    const shards = [(await measureShard({ ...task, shard })).statistics];
    const store = memoryStore();
    const full = await quantizeModel({ ...task, shards, checkpoint: { store } });
    store.pieces.delete([...store.pieces.keys()].at(-1) ?? "");
    const none = { ...refusing(engine), name: engine.name };
    const refuses = (change: Partial<QuantizeTask>, field: string) =>
      expect(
        quantizeModel({ ...task, ...change, engine: none, checkpoint: { store, resume: true } }),
      ).rejects.toMatchObject({ code: "checkpoint/mismatch", place: { file: "memory", field } });
    await refuses({}, "statistics");
    await refuses(
      { recipe: parseRecipe({ steps: ["bc"], formats: [{ weight: { bits: 4 } }] }) },
      "formats[0].weight.bits",
    );
    await refuses({ model: makeResidualNet(2).model }, "model");
    // Before anything is opened.
    expect(none.opened).toBe(0);
    const resumed = await quantizeModel({ ...task, shards, checkpoint: { store, resume: true } });
    expect(bytesOf(resumed)).toEqual(bytesOf(full));
  });

  it("keeps nothing where there are no blocks to finish", async () => {
    const store = memoryStore();
    await quantizeModel({ ...taskOf(makeResidualNet(1), {}, engine), checkpoint: { store } });
    expect(store.pieces.size).toBe(0);
  });
});

function taskOf({ model, feeds }: TestModel, recipe: RecipeInput, on: Engine): QuantizeTask {
  const samples = Array.from({ length: sampleCount }, (_, i) =>
    Object.fromEntries([...feeds].map(([name, { shape }]) => [name, someFloats(shape, 100 + i)])),
  );
  return { model, recipe: parseRecipe(recipe), samples: samplesOf(model, samples), engine: on };
}

function bytesOf({ model }: QuantizeOutcome): Uint8Array {
  return joinChunks(encodeModel(model).chunks);
}

/** The engine, with a count of the runs whose results leave it: those that measure. */
function countRuns(inner: Engine): { readonly engine: Engine; runs(): number } {
  let runs = 0;
  const counting: Engine = {
    name: inner.name,
    async open(model, options) {
      const session = await inner.open(model, options);
      return {
        ...session,
        run: (...given) => {
          runs++;
          return session.run(...given);
        },
      };
    },
    hold: (tensors) => inner.hold(tensors),
    release: (tensors) => inner.release(tensors),
    close: async () => {},
  };
  return { engine: counting, runs: () => runs };
}
