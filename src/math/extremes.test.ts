import { describe, expect, it } from "vitest";
import { extremesOf } from "./extremes.js";

describe("extremesOf", () => {
  it("is what the smallest and the largest of arguments are", () => {
    for (const values of [[3, -1, 2], [5], [], [0, Number.NaN, 1], [Number.NEGATIVE_INFINITY, 4]]) {
      expect(extremesOf(values)).toEqual({ low: Math.min(...values), high: Math.max(...values) });
    }
  });

  it("takes more values than a call takes arguments", () => {
    const values = Float32Array.from({ length: 300_000 }, (_, i) => i - 1000);
    expect(extremesOf(values)).toEqual({ low: -1000, high: 298_999 });
  });
});
