import { describe, expect, it } from "vitest";
import type { Engine, Feeds } from "../src/engine/engine.js";
import type { Model } from "../src/graph/model.js";
import { encodeModel, joinChunks } from "../src/onnx/model.js";
import type { AnyStep } from "../src/step/open-step.js";
import type { OptionValues } from "../src/step/options.js";
import { isFloatType } from "../src/tensor/element-type.js";
import { elementCount } from "../src/tensor/shape.js";
import { float32Tensor, float32Values } from "../src/tensor/tensor.js";
import type { SiteRecord } from "../src/walk/solve-sites.js";
import { runModel, someFloats } from "./models.js";
import { makeChain, makeResidualNet, makeTransformer } from "./networks.js";
import { prepareWalk, roundWeights, walkThrough, withOptions } from "./walking.js";

const networks = [
  ["a chain", makeChain],
  ["a residual network", makeResidualNet],
  ["a transformer", makeTransformer],
] as const;

/** Those in which contracts are tested by default: what is tested in the others takes minutes. */
const quick = networks.filter(([about]) => about === "a chain");

/** The networks in which contracts are tested by `npm run test:long`. */
export const others = networks.filter((network) => !quick.includes(network));

/** Bias compensation with other options than its defaults. */
export const biasVariants: readonly AnyStep[] = Object.entries<OptionValues>({
  "bc-by-position": { bias: "position", keep: "all" },
  "bc-everywhere": { places: "all" },
  "bc-everywhere-local": { places: "all", target: "local" },
  "bc-everywhere-isolated": { places: "all", inputs: "float", bias: "position" },
}).map(([name, options]) => ({ ...withOptions("bc", options), name }));

/** What every compensation has to do. */
export function testStep(engine: Engine, step: AnyStep, inside = quick): void {
  describe(`as a step: ${step.name}`, () => {
    it("has a name for flags and a line for help", () => {
      expect(step.name).toMatch(/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/);
      expect(step.summary).toMatch(/^[a-z].{20,110}[^.]$/);
    });

    it("has something to do in one of the networks", async () => {
      const counts = await Promise.all(
        networks.map(async ([, make]) => {
          const { model, feeds } = make();
          const { context } = await prepareWalk(engine, model, roundWeights(model), [feeds]);
          return step.open(context).sites.length;
        }),
      );
      expect(Math.max(...counts)).toBeGreaterThan(0);
    });

    describe.each(inside)("in %s", (_about, make) => {
      const { model: float, feeds } = make();
      const [[name, { shape }]] = feeds;
      const samples = Array.from({ length: 6 }, (_, i): Feeds => new Map([[name, someFloats(shape, 40 + i)]]));
      const current = roundWeights(float);
      const through = (given: readonly Feeds[], from = current) => walkThrough(engine, float, from, given, step);
      let known: ReturnType<typeof through> | undefined;
      const once = () => (known ??= through(samples));

      it("leaves a valid graph that keeps its names", async () => {
        const { model, records } = await once();
        const { context } = await prepareWalk(engine, float, current, samples);
        const { sites, unusable } = step.open(context);
        // A method for classifiers, say, has nothing to do in other networks, and tells why.
        expect(records.some((record) => record.kind === "solved")).toBe(sites.length > 0);
        expect(sites.length + unusable.length).toBeGreaterThan(0);
        const values = new Set(model.graph.nodes.flatMap((node) => node.outputs));
        for (const value of current.graph.nodes.flatMap((node) => node.outputs)) expect(values).toContain(value);
        expect(model.graph.inputs).toEqual(current.graph.inputs);
        expect(model.graph.outputs).toEqual(current.graph.outputs);
        expect([...(await runModel(engine, model, samples[0])).values()].every((t) => t.shape.length > 0)).toBe(true);
      });

      it("tells of every site once, what it did or why it did nothing", async () => {
        const { records } = await once();
        expect(new Set(records.map(({ label }) => label)).size).toBe(records.length);
        for (const record of records) {
          if (record.kind === "skipped") expect(record.reason).toMatch(/^(?!.*(Infinity|NaN|undefined)).{11,}$/);
          else expect(record.errorAfter).toBeLessThan(record.errorBefore);
        }
      });

      it("gives the same bytes for the same task", async () => {
        const [one, other] = [await once(), await through(samples)];
        expect(joinChunks(encodeModel(one.model).chunks)).toEqual(joinChunks(encodeModel(other.model).chunks));
      });

      it("works on the result of a step", async () => {
        const first = await once();
        const twice = await through(samples, first.model);
        await expectFinite(engine, twice.model, samples);
        expect(totalError(twice.records)).toBeLessThanOrEqual(1.001 * totalError(first.records));
      });

      it("does nothing to a network without error", async () => {
        const { model, records } = await through(samples, float);
        expect(records.map(({ kind }) => kind)).toEqual(records.map(() => "skipped"));
        expect(model.graph).toBe(float.graph);
      });

      it("does nothing without samples", async () => {
        const { model, records } = await through([]);
        expect(records.map(({ kind }) => kind)).toEqual(records.map(() => "skipped"));
        expect(model.graph).toBe(current.graph);
      });

      const count = elementCount(shape);
      it.each([
        ["zeros", [float32Tensor(shape, new Float32Array(count))]],
        ["one constant", [float32Tensor(shape, new Float32Array(count).fill(2.5))]],
        ["the same sample again and again", [1, 2, 3].map(() => someFloats(shape, 7))],
        [
          "large numbers",
          [1, 2].map((seed) =>
            float32Tensor(
              shape,
              float32Values(someFloats(shape, seed)).map((v) => v * 1e6),
            ),
          ),
        ],
      ])("does no harm on %s", async (_kind, tensors) => {
        const given = tensors.map((tensor): Feeds => new Map([[name, tensor]]));
        const { model, records } = await through(given);
        await expectFinite(engine, model, [...given, ...samples]);
        for (const record of records) {
          if (record.kind === "solved") expect(record.errorAfter).toBeLessThan(record.errorBefore);
        }
      });
    });
  });
}

async function expectFinite(engine: Engine, model: Model, samples: readonly Feeds[]): Promise<void> {
  for (const tensor of model.graph.initializers.values()) {
    if (isFloatType(tensor.type)) expect(float32Values(tensor).every(Number.isFinite)).toBe(true);
  }
  for (const feeds of samples) {
    for (const tensor of (await runModel(engine, model, feeds)).values()) {
      expect(float32Values(tensor).every(Number.isFinite)).toBe(true);
    }
  }
}

/** What is left of the error at all sites: where nothing was done, nothing is known. */
function totalError(records: readonly SiteRecord[]): number {
  return records.reduce((sum, record) => sum + (record.kind === "solved" ? record.errorAfter : 0), 0);
}
