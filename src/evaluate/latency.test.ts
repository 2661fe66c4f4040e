import { describe, expect, it } from "vitest";
import { quantile, summarizeLatency } from "./latency.js";

describe("quantile", () => {
  it.each([
    [[], 0.5, 0],
    [[7], 0.95, 7],
    [[1, 3], 0.5, 2],
    [[1, 2, 3, 4], 0.25, 1.75],
    [[1, 2, 3], 0, 1],
    [[1, 2, 3], 1, 3],
  ])("of %j at %f is %f", (sorted, share, expected) => {
    expect(quantile(sorted, share)).toBeCloseTo(expected, 12);
  });
});

describe("summarizeLatency", () => {
  it("leaves the first runs out where there are enough", () => {
    expect(summarizeLatency([100, 90, 80, 4, 1, 3, 2]).median).toBe(2.5);
  });

  it("takes what there is where there are few", () => {
    expect(summarizeLatency([100, 1, 2, 3, 4, 5])).toEqual({ median: 3.5, p95: 76.25 });
    expect(summarizeLatency([])).toEqual({ median: 0, p95: 0 });
  });

  it("does not change the times it is given", () => {
    const times = [3, 1, 2];
    summarizeLatency(times);
    expect(times).toEqual([3, 1, 2]);
  });
});
