import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { samplesOfShard } from "./shard.js";

const indices = (length: number) => Array.from({ length }, (_, i) => 3 * i);

describe("samplesOfShard", () => {
  it("cuts no batch, by hand", () => {
    const part = (index: number) => samplesOfShard(indices(10), 4, { index, count: 2 });
    expect(part(1)).toEqual([0, 3, 6, 9]);
    expect(part(2)).toEqual([12, 15, 18, 21, 24, 27]);
  });

  it("gives every sample to one shard, in order, and no shard two batches more than another", () => {
    const size = fc.integer({ min: 1, max: 20 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), size, fc.nat(), (length, batchSize, any) => {
        const batches = Math.ceil(length / batchSize);
        const count = 1 + (any % batches);
        const parts = Array.from({ length: count }, (_, i) =>
          samplesOfShard(indices(length), batchSize, { index: i + 1, count }),
        );
        expect(parts.flat()).toEqual(indices(length));
        const sizes = parts.map((part) => Math.ceil(part.length / batchSize));
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
        for (const part of parts.slice(0, -1)) expect(part.length % batchSize).toBe(0);
      }),
    );
  });

  it.each([
    [0, 2],
    [3, 2],
    [1, 0],
    [-1, 2],
    [1.5, 2],
    [1, Number.NaN],
  ])("refuses shard %d of %d", (index, count) => {
    expect(() => samplesOfShard(indices(10), 1, { index, count })).toThrow(
      expect.objectContaining({ code: "usage/argument", place: { field: "--shard" } }),
    );
  });

  it("refuses more shards than batches", () => {
    expect(samplesOfShard(indices(10), 4, { index: 3, count: 3 })).toEqual([24, 27]);
    expect(() => samplesOfShard(indices(10), 4, { index: 1, count: 4 })).toThrow(
      "is 1/4, but the 10 samples run in 3 batches of up to 4: there are 3 shards at most",
    );
  });
});
