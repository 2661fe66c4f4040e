import { describe, expect, it } from "vitest";
import { inBatches } from "../src/engine/batch.js";
import type { Engine } from "../src/engine/engine.js";
import { inferValueTypes } from "../src/engine/infer-types.js";
import { encodeModel, joinChunks } from "../src/onnx/model.js";
import { findLayers } from "../src/operators/index.js";
import { type PreparedNetwork, prepareNetwork } from "../src/preparation.js";
import { chooseLayers } from "../src/quantize/choose-layers.js";
import { parseRecipe, type RecipeInput } from "../src/recipe/recipe.js";
import { wishesOf } from "../src/recipe/wish.js";
import type { AnyStep } from "../src/step/open-step.js";
import type { OptionList, OptionValues } from "../src/step/options.js";
import { largestDifference, runModel, type TestModel } from "./models.js";
import { networks } from "./networks.js";

/** Sums in the runtime are float32, and come in another order. */
const tolerance = 1e-5;

/** Takes a network through a step that prepares it. */
export async function prepare(
  engine: Engine,
  { model: float, feeds }: TestModel,
  step: { readonly use: string } & OptionValues,
  formats: RecipeInput["formats"] = [{ weight: { bits: 4 } }],
): Promise<PreparedNetwork> {
  const recipe = parseRecipe({ formats, steps: [step] });
  const types = await inferValueTypes(engine, float);
  const found = findLayers(float.graph, types);
  const choice = chooseLayers(float.graph, types, found, wishesOf(recipe, found.layers));
  const batches = () => inBatches([{ id: "sample", feeds }], 1);
  return prepareNetwork({ engine, recipe, float, types, choice, batches, batchCount: 1 });
}

/** Every value of a choice or a switch, the others at their defaults. */
function variants(options: OptionList): readonly OptionValues[] {
  const changed = Object.entries(options).flatMap(([name, option]): readonly OptionValues[] => {
    if (option.kind === "number") return [];
    const values = option.kind === "choice" ? option.choices : [true, false];
    return values.filter((value) => value !== option.default).map((value) => ({ [name]: value }));
  });
  return [{}, ...changed];
}

/** What every step has to do that changes a float network and keeps its function. */
export function testPreparation(engine: Engine, step: AnyStep): void {
  describe(`as a preparation: ${step.name}`, () => {
    it("has a name for flags and lines for help", () => {
      expect(step.name).toMatch(/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/);
      expect(step.summary).toMatch(/^[a-z].{20,110}[^.]$/);
      for (const { help } of Object.values(step.options)) expect(help).toMatch(/^[a-z].{10,120}[^.]$/);
    });

    describe.each(variants(step.options))("with %j", (options) => {
      it.each(networks)(
        "keeps the function, the inputs, the outputs and the names of nodes: %s",
        async (_about, make) => {
          const given = make();
          const { float } = await prepare(engine, given, { use: step.name, ...options });
          const [before, after] = [given.model.graph, float.graph];
          expect([after.inputs, after.outputs]).toEqual([before.inputs, before.outputs]);
          const names = new Set(after.nodes.map(({ name }) => name));
          for (const { name } of before.nodes) expect(names).toContain(name);
          const [expected, found] = [
            await runModel(engine, given.model, given.feeds),
            await runModel(engine, float, given.feeds),
          ];
          expect(largestDifference(expected, found)).toBeLessThan(tolerance);
        },
      );

      it.each(networks)("tells of every site once, what it did or why it did nothing: %s", async (_about, make) => {
        const { steps } = await prepare(engine, make(), { use: step.name, ...options });
        const [{ sites }] = steps;
        expect(new Set(sites.map(({ label }) => label)).size).toBe(sites.length);
        for (const site of sites) {
          if (site.kind === "skipped") expect(site.reason.length).toBeGreaterThan(10);
          else expect(site.errorAfter).toBeLessThan(site.errorBefore);
        }
      });
    });

    it.each(networks)("gives the same bytes and ends of grids for the same task: %s", async (_about, make) => {
      const once = async () => {
        const { float, choice } = await prepare(engine, make(), { use: step.name });
        const ends = choice.layers.map((plan) => plan.weight.ends);
        return { bytes: joinChunks(encodeModel(float).chunks), ends };
      };
      expect(await once()).toEqual(await once());
    });

    it("finds something to do in one of the networks", async () => {
      const results = await Promise.all(networks.map(([, make]) => prepare(engine, make(), { use: step.name })));
      const sites = results.flatMap(({ steps }) => steps.flatMap((result) => result.sites));
      expect(sites.some(({ kind }) => kind === "solved")).toBe(true);
    });
  });
}
