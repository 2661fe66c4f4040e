import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RecoupError } from "../errors.js";
import { HalvedSums } from "./halved-sums.js";

const runs = fc.array(fc.tuple(fc.integer({ min: -99, max: 99 }), fc.integer({ min: -99, max: 99 })), { maxLength: 9 });

function sumsOf(given: readonly (readonly number[])[]): HalvedSums {
  const sums = new HalvedSums();
  for (const values of given) sums.add(Float32Array.from(values));
  return sums;
}

describe("HalvedSums", () => {
  it("adds every other run to the other half", () => {
    const sums = sumsOf([
      [1, 2],
      [10, 20],
      [100, 200],
    ]);
    expect(sums.halves.map((half) => [...half])).toEqual([
      [101, 202],
      [10, 20],
    ]);
    expect([...sums.total()]).toEqual([111, 222]);
    expect(sums.total()).toBe(sums.total());
    sums.add(Float32Array.of(1, 1));
    expect([...sums.total()]).toEqual([112, 223]);
  });

  it("merges parts to the same halves, as they are or encoded", () => {
    fc.assert(
      fc.property(runs, fc.nat(9), (given, cut) => {
        const whole = sumsOf(given);
        const merged = sumsOf(given.slice(0, cut));
        merged.merge(sumsOf(given.slice(cut)));
        const decoded = new HalvedSums();
        for (const part of [given.slice(0, cut), given.slice(cut)]) decoded.mergeEncoded(sumsOf(part).encode());
        expect([merged.halves, decoded.halves]).toEqual([whole.halves, whole.halves]);
        expect(decoded.encode()).toEqual(whole.encode());
      }),
      { seed: 1 },
    );
  });

  it.each([
    ["no whole number of runs", [1.5, 1]],
    ["fewer than no runs", [-1]],
    ["sums without runs", [0, 1, 2]],
    ["sums that do not divide", [2, 1, 2, 3]],
    ["nothing at all", []],
    ["sums of another length", [1, 1, 2, 3]],
  ])("refuses %s", (_about, numbers) => {
    const sums = sumsOf([[1, 2]]);
    const work = () => sums.mergeEncoded(Float64Array.from(numbers));
    expect(work).toThrow(RecoupError);
    expect([...sums.total()]).toEqual([1, 2]);
  });
});
