import { describe, expect, it } from "vitest";
import { someFloats } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import type { WeightFormat } from "./format.js";
import { roundUnbounded, roundWeightToNearest, type WeightToRound } from "./round-weights.js";

const format: WeightFormat = {
  bits: 4,
  symmetric: true,
  range: "mse",
  granularity: { kind: "per-channel" },
};

function weightWith(smallestScales: Float64Array | undefined, given: WeightFormat = format): WeightToRound {
  const plans = [{ layer: { node: makeNode("Gemm", ["x", "w"], ["y"]) } }] as unknown as WeightToRound["plans"];
  const tensor = someFloats([3, 8], 2);
  return { weight: "w", tensor, channelAxis: 0, format: given, storage: "packed", plans, smallestScales };
}

describe("roundWeightToNearest", () => {
  it("takes what was rounded before bounds were known where they ask for no more", () => {
    const unbounded = roundUnbounded(weightWith(undefined));
    const bounds = Float64Array.from(unbounded.rows.scales, (scale) => scale / 2);
    expect(roundWeightToNearest(weightWith(bounds), unbounded)).toBe(unbounded);
    expect(roundWeightToNearest(weightWith(undefined), unbounded)).toBe(unbounded);
  });

  it("rounds again where a bound asks for a larger scale", () => {
    const unbounded = roundUnbounded(weightWith(undefined));
    const [first, second, third] = unbounded.rows.scales;
    const { rows, sqnrDb } = roundWeightToNearest(weightWith(Float64Array.of(first / 2, second * 3, 0)), unbounded);
    expect([...rows.scales]).toEqual([first, Math.fround(second * 3), third]);
    expect(rows.codes.subarray(0, 8)).toEqual(unbounded.rows.codes.subarray(0, 8));
    expect(sqnrDb).toBeLessThan(unbounded.sqnrDb);
  });

  it("holds the one scale of a tensor against the bounds of all rows", () => {
    const whole: WeightFormat = { ...format, granularity: { kind: "per-tensor" } };
    const unbounded = roundUnbounded(weightWith(undefined, whole));
    const [scale] = unbounded.rows.scales;
    const { rows } = roundWeightToNearest(weightWith(Float64Array.of(0, 0, scale * 2), whole), unbounded);
    expect([...rows.scales]).toEqual([Math.fround(scale * 2)]);
  });
});
