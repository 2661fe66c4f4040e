import { describe, expect, it } from "vitest";
import { type Bar, isBetter } from "./gain.js";

function bar(leastGain: number, rank: number, certainty = 2): Bar {
  return { leastGain, certainty, rank };
}

describe("isBetter", () => {
  const trial = (...errors: readonly number[]) => ({ samples: errors.map((error) => ({ kl: error, error })) });
  const first = trial(1, 2, 3, 2);

  it.each([
    ["a smaller error on every sample", trial(0.9, 1.9, 2.8, 1.9), true],
    ["the same", first, false],
    ["a gain that is too small", trial(0.999, 1.998, 2.999, 1.998), false],
    ["a gain on one sample that others pay for", trial(1.1, 2.1, 2.0, 2.1), false],
    // A mean gain of 0.3 with a standard error of 0.19.
    ["a gain that may be chance", trial(0.9, 1.9, 2.1, 1.9), false],
    ["a larger error", trial(2, 3, 4, 3), false],
    ["no number", trial(Number.NaN, 1, 1, 1), false],
    ["an infinite error", trial(Number.POSITIVE_INFINITY, 0, 0, 0), false],
  ])("is told of %s: %s", (_about, other, expected) => {
    expect(isBetter(first, other, bar(0.01, 2))).toBe(expected);
    expect(isBetter(first, other, bar(0.01, 3))).toBe(expected);
  });

  it("asks for as much certainty as it is told", () => {
    expect(isBetter(first, trial(0.9, 1.9, 2.1, 1.9), bar(0.01, 2, 1))).toBe(true);
    expect(isBetter(first, trial(0.9, 1.9, 2.1, 1.9), bar(0.01, 2, 1.6))).toBe(false);
  });

  it("holds for anything beside what gave no numbers", () => {
    expect(isBetter(trial(Number.NaN, 0, 0, 0), first, bar(0.01, 2))).toBe(true);
  });

  it("does not go by the divergence of single values", () => {
    const regressor = (error: number) => ({ samples: [error, error].map((own) => ({ kl: 0, error: own })) });
    expect(isBetter(regressor(2), regressor(1), bar(0, 2))).toBe(true);
  });

  it("is never certain of a single sample", () => {
    expect(isBetter(trial(2), trial(1), bar(0, 2, 0))).toBe(true);
    expect(isBetter(trial(2), trial(1), bar(0, 2, 1))).toBe(false);
  });
});
