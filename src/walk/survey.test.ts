import { afterAll, describe, expect, it } from "vitest";
import { someFloats } from "../../test/models.js";
import { makeChain, makeTransformer } from "../../test/networks.js";
import { prepareRefinement } from "../../test/refining.js";
import { prepareWalk, roundWeights, stepNamed } from "../../test/walking.js";
import { PairedRowsStatistic } from "../calibrate/paired-rows.js";
import type { Feeds } from "../engine/engine.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { encodeModel, joinChunks } from "../onnx/model.js";
import { defineStep } from "../step/open-step.js";
import type { Site } from "../step/step.js";
import { surveySites } from "./survey.js";
import { walk } from "./walk.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** Sees two layers before the walk, and then works on the second one only. */
function pickingStep(seen: string[]) {
  const sites = ["c0", "c2"].map((value): Site => ({ label: `at ${value}`, value }));
  return defineStep<Record<never, never>, Site, readonly [unknown], never>({
    name: "picking",
    summary: "",
    outcome: "",
    options: {},
    sites: () => ({ usable: sites, unusable: [{ label: "elsewhere", reason: "it is elsewhere" }] }),
    survey: (given) => ({
      look: ({ label }, [found]) => seen.push(`${label}: ${JSON.stringify(found).length > 2}`),
      settle: () => given.slice(1),
    }),
    statistics: ({ value }) => [new PairedRowsStatistic(value, 4)],
    solve: () => ({ kind: "skipped", reason: "it is as it is" }),
    rewrite: () => {
      throw new Error("nothing was solved");
    },
  });
}

async function prepare() {
  const { model, feeds } = makeChain();
  const [[name, { shape }]] = feeds;
  const samples = [1, 2].map((seed): Feeds => new Map([[name, someFloats(shape, seed)]]));
  return prepareWalk(engine, model, roundWeights(model), samples);
}

describe("surveySites", () => {
  it("looks at every site once, and leaves the walk what is settled then", async () => {
    const { input, context } = await prepare();
    const seen: string[] = [];
    const steps = await surveySites(input, [stepNamed("bc").open(context), pickingStep(seen).open(context)]);
    expect(seen).toEqual(["at c0: true", "at c2: true"]);
    const { records } = await walk(input, steps);
    expect(records[0].length).toBeGreaterThan(0);
    expect(records[1].map(({ label }) => label)).toEqual(["elsewhere", "at c2"]);
  });

  it("runs nothing where no step looks first", async () => {
    const { input, context } = await prepare();
    const steps = [stepNamed("bc").open(context), stepNamed("qwt").open(context)];
    const batches = {
      [Symbol.iterator]: () => {
        throw new Error("read");
      },
    };
    expect(await surveySites({ ...input, batches }, steps)).toBe(steps);
  });

  it("leaves weights that the walk rounds to the walk", async () => {
    const given = makeTransformer();
    const [[name, { shape }]] = given.feeds;
    const samples = Array.from({ length: 12 }, (_, i): Feeds => new Map([[name, someFloats(shape, 40 + i)]]));
    const weight = { bits: 3, rounding: { use: "gptq", target: "same" } } as const;
    const refined = async (spend: string) => {
      const recipe = { formats: [{ weight, activation: "float" as const }], steps: [{ use: "qwt", spend }] };
      return (await prepareRefinement(engine, given, recipe, samples)).refine();
    };
    const [best, again, evenly] = [await refined("best"), await refined("best"), await refined("evenly")];
    expect(joinChunks(encodeModel(best.model).chunks)).toEqual(joinChunks(encodeModel(again.model).chunks));
    const [gptq, expected] = [best, evenly].map(({ steps }) => steps[0].sites);
    expect(gptq.map(({ kind }) => kind)).toEqual(expected.map(() => "solved"));
    // Before the first block is compensated nothing differs.
    expect(gptq[0]).toEqual(expected[0]);
  });
});
