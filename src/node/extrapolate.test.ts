import { describe, expect, it } from "vitest";
import { estimatePhases, peakBytes, type Rehearsed, type RunSize, trialMs } from "./extrapolate.js";

/** 20 samples in 2 batches: calibration takes 30 ms for the first and 10 for each other, the walk 50 and 5. */
const rehearsed: Rehearsed = {
  samples: 20,
  elapsedMs: { clean: 100, calibrate: 40, refine: 55, measure: 70 },
  passes: [
    { phase: "clean", doneMs: [1, 4] },
    { phase: "calibrate", doneMs: [130, 140] },
    { phase: "refine", doneMs: [190, 195] },
  ],
  skippedMs: 0,
  measuredMs: [],
  turnsMs: [],
};
const none = { fewest: 0, most: 0, fitted: 0, held: 0 };
const run: RunSize = { samples: 100, measured: 0, turns: 0, trials: none };

describe("estimatePhases", () => {
  it("repeats what lies between batches, once for each further batch", () => {
    expect(estimatePhases(rehearsed, run)).toEqual({
      clean: 100,
      calibrate: 30 + 9 * 10,
      refine: 50 + 9 * 5,
      measure: 70,
    });
  });

  it("gives what was measured where all samples were run", () => {
    expect(estimatePhases(rehearsed, { ...run, samples: 20 })).toEqual(rehearsed.elapsedMs);
  });

  it("does not repeat passes that were given up, nor those of a single batch", () => {
    const passes = [...rehearsed.passes, { phase: "refine", doneMs: [170] }];
    expect(estimatePhases({ ...rehearsed, passes }, run)).toEqual(estimatePhases(rehearsed, run));
    const single = { ...rehearsed, passes: [{ phase: "calibrate", doneMs: [130] }] };
    expect(estimatePhases(single, run).calibrate).toBe(40);
  });

  it("adds solving, whatever the number of samples", () => {
    expect(estimatePhases({ ...rehearsed, skippedMs: 1000 }, run).refine).toBe(1095);
  });

  it("adds samples and turns of the measurement", () => {
    const measured = { ...rehearsed, measuredMs: [200, 206], turnsMs: [206, 216] };
    // 70 ms with two samples and one turn of ten.
    expect(estimatePhases(measured, { ...run, measured: 5, turns: 4 }).measure).toBe(70 + 3 * 6 + 3 * 10);
  });

  it("adds trials: as few as there may be, each on a part of the samples", () => {
    const elapsedMs = { ...rehearsed.elapsedMs, quantize: 7 };
    const measured = { ...rehearsed, elapsedMs, measuredMs: [200, 206], skippedMs: 1000 };
    const trials = { fewest: 2, most: 4, fitted: 40, held: 8 };
    // Ranges and a walk in four batches, rounding, solving what was not solved, and a comparison.
    const each = 60 + 65 + 7 + 1000 + 8 * 6;
    expect(trialMs(measured, trials)).toBe(each);
    expect(estimatePhases(measured, { ...run, measured: 2, trials }).try).toBe(2 * each);
  });

  it("takes the second time for what follows the first trial", () => {
    const again = { ...rehearsed, elapsedMs: { clean: 1, calibrate: 20, refine: 30 } };
    const trials = { fewest: 3, most: 6, fitted: 20, held: 0 };
    const estimate = estimatePhases(rehearsed, { ...run, samples: 20, trials }, again);
    expect(estimate).toEqual({ clean: 100, calibrate: 20, refine: 30, measure: 70, try: 40 + 55 + 2 * (20 + 30) });
  });

  it("makes a trial on fewer samples than were run shorter", () => {
    const trials = { fewest: 2, most: 4, fitted: 10, held: 0 };
    expect(trialMs(rehearsed, trials)).toBe(40 - 10 + 55 - 5);
  });
});

describe("peakBytes", () => {
  const samples = [
    { residentBytes: 500, heldBytes: 100 },
    { residentBytes: 700, heldBytes: 10 },
  ];

  it("lets held tensors grow with the samples, and what is left of them", () => {
    expect(peakBytes(samples, 1, 1000)).toBe(700);
    expect(peakBytes(samples, 5, 1000)).toBe(500 + 1.3 * 400);
  });

  it("leaves in memory what is allowed there", () => {
    expect(peakBytes(samples, 5, 320)).toBe(500 + 1.3 * 220);
    expect(peakBytes(samples, 5, 50)).toBe(700 + 1.3 * 40);
    expect(peakBytes(samples, 5, 0)).toBe(700);
  });
});
