import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nearest } from "../../test/fake-quantize.js";
import { clamp, roundHalfEven } from "./round.js";

describe("roundHalfEven", () => {
  it.each([
    [2.5, 2],
    [3.5, 4],
    [-2.5, -2],
    [-3.5, -4],
    [0.5, 0],
    [-0.5, 0],
    [1.4999999999999998, 1],
    [0.49999999999999994, 0],
    [-7, -7],
    [2 ** 52 + 1, 2 ** 52 + 1],
    [-(2 ** 53), -(2 ** 53)],
  ])("rounds %d to %d", (value, rounded) => {
    expect(roundHalfEven(value) + 0).toBe(rounded);
  });

  it("agrees with the slow version", () => {
    const value = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.integer({ min: -512, max: 512 }).map((half) => half / 2),
    );
    fc.assert(
      fc.property(value, (number) => roundHalfEven(number) + 0 === nearest(number) + 0),
      { seed: 1 },
    );
  });
});

describe("clamp", () => {
  it("holds a value between two limits", () => {
    expect([-3, -1, 0, 2, 5].map((value) => clamp(value, -1, 2))).toEqual([-1, -1, 0, 2, 2]);
  });
});
