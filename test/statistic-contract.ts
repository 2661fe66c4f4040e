import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { collect } from "../src/calibrate/collect.js";
import type { Statistic, Tap } from "../src/calibrate/statistic.js";
import { inBatches, type NamedFeeds } from "../src/engine/batch.js";
import { type Engine, withSession } from "../src/engine/engine.js";
import { makeNode } from "../src/graph/node.js";
import { elementCodeOf } from "../src/tensor/element-code.js";
import { float32Tensor, float64Values, type Tensor } from "../src/tensor/tensor.js";
import { makeTestModel, someFloats } from "./models.js";

/** What both networks compute of a sample: the value `y`. */
export interface Pair {
  readonly float: readonly number[];
  readonly current: readonly number[];
}

/** A statistic that looks at the value `y`, of shape `[batch, 4, 3]`, and the slow and obvious version of it. */
export interface StatisticCase {
  readonly about: string;
  readonly make: () => Statistic<unknown>;
  readonly slowly: (samples: readonly Pair[]) => unknown;
  /** It depends on the order of single samples, so it is not fed batches. */
  readonly isOrdered?: boolean;
  /** The part of a result that does not depend on how samples go together to runs; all of it where not given. */
  readonly seen?: (result: unknown) => unknown;
}

/** Sums in the runtime are float32. */
const tolerance = 1e-5;

/** Two convolutions of one input, as the engine sees two networks: the float one's values have a prefix. */
export function makePair(type: "float32" | "float16", opset = 17) {
  const to = elementCodeOf(type);
  return makeTestModel({
    opset,
    irVersion: opset < 12 ? 5 : 8,
    feeds: { x: float32Tensor([0, 3, 3], []) },
    shapes: { x: ["batch", 3, 3] },
    nodes: [
      makeNode("Conv", ["x", "w"], ["exact"]),
      makeNode("Conv", ["x", "v"], ["rounded"]),
      makeNode("Cast", ["exact"], ["float/y"], { to }),
      makeNode("Cast", ["rounded"], ["y"], { to }),
    ],
    initializers: { w: someFloats([4, 3, 1], 1), v: someFloats([4, 3, 1], 2) },
    outputs: ["y", "float/y"],
  }).model;
}

export const nameOf = ({ from, value }: Tap) => (from === "float" ? `float/${value}` : value);

/** Samples that differ in size and in mean. */
export const samples: readonly NamedFeeds[] = Array.from({ length: 9 }, (_, i) => {
  const x = Float64Array.from(float64Values(someFloats([1, 3, 3], 10 + i)), (value) => value * (1 + (i % 4)) + 0.3);
  return { id: `sample ${i}`, feeds: new Map([["x", float32Tensor([1, 3, 3], x)]]) };
});

/** The result over some samples, which go through the engine in batches of the given size. */
export async function resultOf<Result>(
  engine: Engine,
  statistic: Statistic<Result>,
  given: readonly NamedFeeds[],
  batchSize = 1,
  model = makePair("float32"),
): Promise<Result> {
  await collect(engine, model, [statistic], nameOf, inBatches(given, batchSize));
  return statistic.result();
}

/** What every statistic has to do. */
export function testStatistic(engine: Engine, { about, make, slowly, isOrdered = false, seen }: StatisticCase): void {
  const expectClose = (actual: unknown, expected: unknown) =>
    expectNear(seen ? seen(actual) : actual, seen ? seen(expected) : expected);
  describe(`as a statistic: ${about}`, () => {
    it.each(["float32", "float16"] as const)("equals the slow and obvious version in %s", async (type) => {
      const model = makePair(type);
      const pairs = await withSession(engine, model, {}, (session) =>
        Promise.all(
          samples.map(async ({ feeds }): Promise<Pair> => {
            const { outputs } = await session.run(feeds);
            const valuesOf = (name: string) => Array.from(float64Values(outputs.get(name) as Tensor));
            return { float: valuesOf("float/y"), current: valuesOf("y") };
          }),
        ),
      );
      expectClose(await resultOf(engine, make(), samples, 1, model), slowly(pairs));
    });

    it.each([11, 13, 21])("works at version %i of the operators", async (opset) => {
      const result = await resultOf(engine, make(), samples, isOrdered ? 1 : 3, makePair("float32", opset));
      expectClose(result, await resultOf(engine, make(), samples));
    });

    it("adds up: any split into batches and parts gives the same", async () => {
      const whole = await resultOf(engine, make(), samples);
      const split = fc.array(fc.integer({ min: 0, max: samples.length }), { maxLength: 3 });
      await fc.assert(
        fc.asyncProperty(split, fc.integer({ min: 1, max: isOrdered ? 1 : 5 }), async (cuts, batchSize) => {
          const ends = [...cuts.sort((a, b) => a - b), samples.length];
          const merged = make();
          for (const [part, end] of ends.entries()) {
            const statistic = make();
            await resultOf(engine, statistic, samples.slice(ends[part - 1] ?? 0, end), batchSize);
            merged.merge(statistic);
          }
          expectClose(merged.result(), whole);
        }),
        { numRuns: 8, seed: 1 },
      );
    });

    it("is encoded whole: what merges as bytes is what merges as it is", async () => {
      const parts = [samples.slice(0, 4), [], samples.slice(4, 5), samples.slice(5)];
      const [direct, encoded] = [make(), make()];
      for (const part of parts) {
        const statistic = make();
        await resultOf(engine, statistic, part);
        direct.merge(statistic);
        encoded.mergeEncoded(statistic.encode());
      }
      expect(encoded.result()).toEqual(direct.result());
      expect(encoded.encode()).toEqual(direct.encode());
      const again = make();
      again.mergeEncoded(direct.encode());
      expect(again.result()).toEqual(direct.result());
      expect(again.encode()).toEqual(direct.encode());
      expectClose(again.result(), await resultOf(engine, make(), samples));
    });

    it("decodes bytes at any place of a buffer, and keeps none of them", async () => {
      const statistic = make();
      const result = await resultOf(engine, statistic, samples.slice(0, 3));
      const encoded = statistic.encode();
      const shifted = new Uint8Array(encoded.length + 3);
      shifted.set(encoded, 3);
      const decoded = make();
      decoded.mergeEncoded(shifted.subarray(3));
      shifted.fill(7);
      encoded.fill(7);
      expect(decoded.result()).toEqual(result);
      expect(statistic.result()).toEqual(result);
    });

    it("refuses bytes of which some are missing", async () => {
      const statistic = make();
      await resultOf(engine, statistic, samples.slice(0, 2));
      const encoded = statistic.encode();
      const refused = expect.objectContaining({ code: "statistics/malformed" });
      expect(() => make().mergeEncoded(encoded.subarray(1))).toThrow(refused);
      expect(() => make().mergeEncoded(encoded.subarray(0, encoded.length - 1))).toThrow(refused);
    });

    it("takes samples without elements for nothing", async () => {
      const empty = { id: "empty", feeds: new Map([["x", float32Tensor([0, 3, 3], [])]]) };
      const [first, ...others] = samples;
      expectClose(await resultOf(engine, make(), [first, empty, ...others]), await resultOf(engine, make(), samples));
    });

    it("has the same key when it is made again", () => {
      expect(make().key).toBe(make().key);
    });
  });
}

/** Numbers, arrays of numbers and objects of them, within the tolerance relative to the largest number. */
function expectNear(actual: unknown, expected: unknown): void {
  const [left, right] = [numbersIn(actual), numbersIn(expected)];
  expect([...left.keys()]).toEqual([...right.keys()]);
  for (const [path, values] of right) {
    const scale = Math.max(1e-30, ...values.map(Math.abs).filter(Number.isFinite));
    values.forEach((value, i) => {
      const difference = Object.is(value, left.get(path)?.[i]) ? 0 : Math.abs(value - left.get(path)![i]) / scale;
      expect(difference, `${path}[${i}]: ${left.get(path)?.[i]} instead of ${value}`).toBeLessThan(tolerance);
    });
  }
}

function numbersIn(value: unknown, path = ""): ReadonlyMap<string, readonly number[]> {
  if (typeof value === "number") return new Map([[path, [value]]]);
  if (value instanceof Float64Array) return new Map([[path, [...value]]]);
  const entries = Object.entries(value as Readonly<Record<string, unknown>>);
  return new Map(entries.flatMap(([key, inner]) => [...numbersIn(inner, `${path}.${key}`)]));
}
