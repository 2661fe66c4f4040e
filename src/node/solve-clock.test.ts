import { describe, expect, it } from "vitest";
import { buildGraph } from "../graph/graph.js";
import type { OpenSite, OpenStep } from "../step/open-step.js";
import { SolveClock, sitesToSolve, skippedMs } from "./solve-clock.js";

describe("sitesToSolve", () => {
  it("takes the largest that are a small share of all, the last of those with the same work", () => {
    expect(sitesToSolve([...Array(6).fill(10), 5, 5, 3, 1])).toEqual(new Set([5, 7, 8]));
  });

  it("leaves out a site that would be most of the run", () => {
    expect(sitesToSolve([1000, 10, 20])).toEqual(new Set([1, 2]));
  });

  it("takes the smallest where every site is too large, and none of none", () => {
    expect(sitesToSolve([4, 3, 4])).toEqual(new Set([1]));
    expect(sitesToSolve([])).toEqual(new Set());
  });
});

describe("skippedMs", () => {
  const solving = (work: number, elapsedMs: number) => ({ work, elapsedMs });

  it("is in proportion to the work, less what was spent", () => {
    expect(skippedMs([solving(9, 900), solving(2, 20), solving(4, 40)], [solving(10, 1), solving(20, 2)])).toBe(297);
    expect(skippedMs([solving(2, 20)], [solving(10, 1)])).toBe(99);
  });

  it("is nothing where nothing takes long", () => {
    expect(skippedMs([], [])).toBe(0);
  });
});

describe("SolveClock", () => {
  const graph = buildGraph({
    name: "",
    inputs: [],
    outputs: [],
    nodes: [],
    initializers: new Map(),
    valueInfo: new Map(),
  });

  /** Sites that say which way they were solved. */
  const site = (label: string, work: number | undefined): OpenSite => {
    const answer = (reason: string) => () => ({ kind: "skipped", reason }) as const;
    return {
      label,
      value: label,
      taps: [],
      measure: () => [],
      advance: answer("solved"),
      restore: () => ({ label }),
      weightRanges: () => new Map(),
      standIn: work === undefined ? undefined : { work, advance: answer("stood in for") },
    };
  };

  it("solves some of the sites that take long, and all others", () => {
    const works = [10, 10, 10, 10, 10, 10, 10, undefined];
    const steps: readonly OpenStep[] = [
      { name: "slow", outcome: "", unusable: [], sites: works.map((work, i) => site(`s${i}`, work)) },
    ];
    let solved = 0;
    const clock = new SolveClock(() => solved++);
    const [{ sites }] = clock.replaceSteps(steps);
    expect(sites.map((one) => one.advance(graph))).toEqual(
      works.map((_, i) => ({ kind: "skipped", reason: i >= 6 ? "solved" : "stood in for" })),
    );
    expect(solved).toBe(1);
    expect(clock.skippedMs).not.toBeNaN();
  });
});
