import { describe, expect, it } from "vitest";
import { makeSession } from "../../test/sessions.js";
import type { Sample } from "../data/samples.js";
import type { Session } from "../engine/engine.js";
import { float32Tensor } from "../tensor/tensor.js";
import { type Bar, compareSamples, isBetter, isWorse, leastSqnrDb } from "./gain.js";

function bar(leastGain: number, rank: number, certainty = 2): Bar {
  return { leastGain, certainty, rank };
}

describe("isBetter", () => {
  const trial = (...errors: readonly number[]) => ({
    samples: errors.map((error) => ({ kl: error, error, others: [] })),
  });
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
    const regressor = (error: number) => ({
      samples: [error, error].map((own) => ({ kl: 0, error: own, others: [] })),
    });
    expect(isBetter(regressor(2), regressor(1), bar(0, 2))).toBe(true);
  });

  it("is never certain of a single sample", () => {
    expect(isBetter(trial(2), trial(1), bar(0, 2, 0))).toBe(true);
    expect(isBetter(trial(2), trial(1), bar(0, 2, 1))).toBe(false);
  });

  it("counts no difference in the rounding of float32 as a gain", () => {
    expect(isBetter(trial(3.2e-14, 3.3e-14), trial(3.1e-14, 3.2e-14), bar(0, 2, 0))).toBe(false);
    expect(isBetter(trial(3e-10, 3e-10), trial(2e-10, 2e-10), bar(0, 2, 0))).toBe(true);
  });

  it("is what isWorse says of the other, with one output", () => {
    const second = trial(0.5, 1.5, 2.8, 1.9);
    for (const certainty of [0, 1, 2, 5]) {
      for (const leastGain of [0, 0.2]) {
        const asked = bar(leastGain, 2, certainty);
        expect(isWorse(second, first, asked)).toBe(isBetter(first, second, asked));
        expect(isWorse(first, second, asked)).toBe(isBetter(second, first, asked));
      }
    }
    expect(isWorse(first, trial(Number.NaN), bar(0, 2))).toBe(true);
    expect(isWorse(trial(Number.NaN), first, bar(0, 2))).toBe(false);
  });

  it("loses no output beside a larger one", () => {
    const both = (error: number, other: number) => ({
      samples: [1, 1.1, 0.9].map((share) => ({ kl: 0, error: share * error, others: [share * other] })),
    });
    expect(isBetter(both(0.5, 0.001), both(0.45, 0.1), bar(0, 3))).toBe(false);
    expect(isBetter(both(0.5, 0.001), both(0.51, 0.0005), bar(0, 3))).toBe(true);
    // An output that was exact may not be off by more than rounding.
    expect(isBetter(both(0.5, 0), both(0.45, 1e-12), bar(0, 3))).toBe(true);
    expect(isBetter(both(0.5, 0), both(0.45, 1e-3), bar(0, 3))).toBe(false);
    // Ruined beside what was there before, however little it was.
    expect(isWorse(both(1, 1e-6), both(0.5, 1e-3), bar(0.01, 3))).toBe(true);
    expect(isBetter(both(0.5, Number.NaN), both(0.5, 0.1), bar(0, 3))).toBe(true);
    expect(isBetter(both(0.5, 0.1), both(0.4, Number.NaN), bar(0, 3))).toBe(false);
  });
});

describe("compareSamples", () => {
  const returning = (large: number, small: number, empty: number): Session => ({
    ...makeSession((values) => values),
    outputs: ["none", "large", "small", "empty"].map((name) => ({
      name,
      type: { kind: "tensor", elementType: name === "none" ? "int64" : "float32" } as const,
    })),
    run: async () => ({
      outputs: new Map([
        ["large", float32Tensor([1, 1, 2], [large, -large])],
        ["small", float32Tensor([1, 1], [small])],
        ["empty", float32Tensor([1], [empty])],
      ]),
      elapsedMs: 1,
    }),
  });
  const samples = async function* (): AsyncIterable<Sample> {
    yield { id: "", feeds: new Map() };
    yield { id: "", feeds: new Map() };
  };

  it("has the error of each output in its own measure", async () => {
    const found = await compareSamples(returning(100, 1, 0), returning(101, 0.5, 0.1), samples());
    expect(found.sqnrDb).toBeGreaterThan(30);
    for (const { error, others } of found.samples) {
      expect(error).toBeCloseTo(1e-4, 8);
      expect(others).toEqual([0.25, expect.closeTo(0.01, 6)]);
    }
    expect(leastSqnrDb(found)).toBeCloseTo(6.02, 2);
  });

  it("has the first output first and as many for every sample, where one is empty on some", async () => {
    let runs = 0;
    const session = (value: number): Session => ({
      ...returning(value, value, value),
      run: async () => {
        const isEmpty = runs++ < 2;
        const large = isEmpty ? float32Tensor([0, 4], []) : float32Tensor([1, 2], [value, value]);
        return {
          outputs: new Map([
            ["large", large],
            ["small", float32Tensor([1], [value])],
          ]),
          elapsedMs: 1,
        };
      },
    });
    const found = await compareSamples(session(1), session(0.5), samples());
    expect(found.samples.map(({ error, others }) => [error, ...others])).toEqual([
      [0, 0.25, 0],
      [expect.closeTo(0.5, 6), 0.25, 0],
    ]);
  });
});
