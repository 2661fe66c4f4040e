import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { groupByDepth } from "./depth.js";

const sitesAt = (...values: readonly string[]) => values.map((value) => ({ value }));

describe("groupByDepth", () => {
  it("puts branches together and what reads them behind", () => {
    const nodes = [
      makeNode("Conv", ["x"], ["a"]),
      makeNode("Conv", ["x"], ["b"]),
      makeNode("Relu", ["a"], ["c"]),
      makeNode("Conv", ["c"], ["d"]),
      makeNode("Add", ["d", "b"], ["e"]),
    ];
    expect(groupByDepth(nodes, sitesAt("e", "d", "b", "a"))).toEqual([sitesAt("b", "a"), sitesAt("d"), sitesAt("e")]);
  });

  it("does not count what stands before the nodes", () => {
    const nodes = [makeNode("Conv", ["x", "y"], ["a"])];
    expect(groupByDepth(nodes, sitesAt("a"))).toEqual([sitesAt("a")]);
    expect(groupByDepth(nodes, [])).toEqual([]);
  });

  it("counts the sites on the longest way", () => {
    const network = fc.array(fc.tuple(fc.nat(), fc.nat(), fc.boolean()), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(network, (parts) => {
        const nodes = parts.map(
          ([a, b], i): Node => makeNode("Add", [`v${a % (i + 1)}`, `v${b % (i + 1)}`], [`v${i + 1}`]),
        );
        const sites = sitesAt(...parts.flatMap(([, , isSite], i) => (isSite ? [`v${i + 1}`] : [])));
        const isSite = (value: string) => sites.some((site) => site.value === value);
        const above = (value: string): number => {
          const node = nodes.find((candidate) => candidate.outputs[0] === value);
          return Math.max(0, ...(node?.inputs ?? []).map((input) => above(input) + (isSite(input) ? 1 : 0)));
        };
        const groups = groupByDepth(nodes, sites);
        groups.forEach((group, depth) => {
          for (const { value } of group) expect(above(value)).toBe(depth);
        });
        expect(groups.flat()).toHaveLength(sites.length);
      }),
      { numRuns: 50 },
    );
  });
});
