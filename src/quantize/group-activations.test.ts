import { describe, expect, it } from "vitest";
import type { Range } from "../math/distribution.js";
import type { ActivationSite } from "./choose-activations.js";
import type { Bits } from "./format.js";
import { groupActivations } from "./group-activations.js";

function site(value: string, selectedFrom: readonly string[] = [], bits: Bits = 8): ActivationSite {
  return { value, format: { bits, symmetric: false }, spacing: "uniform", isIntegerOutput: true, selectedFrom };
}

/** Groups as names, given in sorted order, with their ranges. */
function group(
  sites: readonly ActivationSite[],
  ranges: Readonly<Record<string, readonly [low: number, high: number]>>,
  readers: Readonly<Record<string, number>> = {},
) {
  const known = new Map(Object.entries(ranges).map(([name, [low, high]]) => [name, { low, high } satisfies Range]));
  return groupActivations(sites, known, (value) => readers[value] ?? 1)
    .map(({ sites: members, range, format }) => ({
      values: members.map((member) => member.value).sort(),
      range: [range.low, range.high],
      bits: format.bits,
    }))
    .sort((a, b) => a.values[0].localeCompare(b.values[0]));
}

describe("groupActivations", () => {
  it("gives values that select from each other one grid over all their ranges", () => {
    const sites = [site("c", ["a", "b"]), site("a"), site("d", ["c"]), site("b"), site("e")];
    const ranges = { a: [0, 1], b: [-3, 0], c: [-3, 1], d: [-2, 1], e: [0, 9] } as const;
    expect(group(sites, ranges, { c: 2, d: 5 })).toEqual([
      { values: ["a", "b", "c", "d"], range: [-3, 1], bits: 8 },
      { values: ["e"], range: [0, 9], bits: 8 },
    ]);
  });

  it("joins what is connected by several ways once", () => {
    const sites = [site("d", ["b", "c"]), site("b", ["a"]), site("c", ["a"]), site("a")];
    const ranges = { a: [0, 1], b: [0, 1], c: [0, 1], d: [0, 1] } as const;
    expect(group(sites, ranges)).toEqual([{ values: ["a", "b", "c", "d"], range: [0, 1], bits: 8 }]);
  });

  it.each([
    { about: "its own grid where the shared one is too coarse for other readers", high: 2.1, readers: 2, groups: 2 },
    { about: "the shared grid up to twice as coarse", high: 2, readers: 2, groups: 1 },
    { about: "the shared grid where the Concat is its only reader", high: 640, readers: 1, groups: 1 },
  ])("leaves an input of Concat $about", ({ high, readers, groups }) => {
    const sites = [site("c", ["a", "b"]), site("a"), site("b")];
    const found = group(sites, { a: [0, 1], b: [0, high], c: [0, high] }, { a: readers });
    expect(found).toHaveLength(groups);
    expect(found[0].values.includes("a") && found[0].range[1]).toBe(groups === 1 ? high : 1);
  });

  it("counts zero into the ranges it compares", () => {
    const sites = [site("c", ["a", "b"]), site("a"), site("b")];
    // Of a grid that must hold zero, 5 to 6 needs as much as 0 to 6.
    const found = group(sites, { a: [5, 6], b: [-4, 8], c: [-4, 8] }, { a: 2 });
    expect(found).toHaveLength(1);
  });

  it("takes the most bits that one of the values needs", () => {
    const found = group([site("b", ["a"], 4), site("a", [], 6)], { a: [0, 1], b: [0, 1] });
    expect(found).toEqual([{ values: ["a", "b"], range: [0, 1], bits: 6 }]);
  });

  it("does not wait for a source that is not quantized", () => {
    expect(group([site("b", ["a"])], { b: [0, 1] })).toEqual([{ values: ["b"], range: [0, 1], bits: 8 }]);
  });
});
