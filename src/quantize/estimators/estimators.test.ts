import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { distributionOf, type Observed, type Range } from "../../math/distribution.js";
import { createRandom } from "../../math/random.js";
import type { Bits } from "../format.js";
import { chooseActivationGrid, levelsOfGrid } from "../grid.js";
import { errorOf, type GridRule } from "./estimator.js";
import { rangeEstimatorNamed, rangeEstimators } from "./index.js";

const ruleFor = (bits: Bits, symmetric: boolean): GridRule => ({
  bits,
  symmetric,
  levelsOf: (range) => levelsOfGrid(chooseActivationGrid(range, bits, symmetric)),
});

function observe(values: Iterable<number>): Observed {
  const distribution = distributionOf(Float64Array.from(values).sort());
  return { extremes: { low: distribution.low, high: distribution.high }, distribution };
}

/** Of a Laplace density of mean deviation 1. */
function laplace(count: number): readonly number[] {
  const random = createRandom(7);
  return Array.from({ length: count }, () => {
    const side = (random.next() + 0.5) / 2 ** 32 - 0.5;
    return -Math.sign(side) * Math.log(1 - 2 * Math.abs(side));
  });
}

const someValues = fc.array(fc.double({ min: -100, max: 100, noNaN: true }), { minLength: 1, maxLength: 60 });
const someRule = fc
  .tuple(fc.constantFrom<Bits[]>(2, 3, 4, 8), fc.boolean())
  .map(([bits, symmetric]) => ruleFor(bits, symmetric));

describe("every range estimator", () => {
  it.each(rangeEstimators)("$name gives a finite range around or beside zero, whatever the values", ({ estimate }) => {
    fc.assert(
      fc.property(someValues, someRule, (values, rule) => {
        const { low, high } = estimate(observe(values), rule);
        expect([low, high].every(Number.isFinite)).toBe(true);
        expect(low).toBeLessThanOrEqual(high);
      }),
      { seed: 1 },
    );
  });

  it.each(rangeEstimators)("$name takes zeros for zeros", ({ estimate }) => {
    expect(estimate(observe([0, 0, 0]), ruleFor(8, false))).toEqual({ low: 0, high: 0 });
  });
});

describe("mse", () => {
  it("is never worse than all values", () => {
    fc.assert(
      fc.property(someValues, someRule, (values, rule) => {
        const observed = observe(values);
        const distribution = distributionOf(Float64Array.from(values).sort());
        const best = errorOf(distribution, rule, rangeEstimatorNamed("mse").estimate(observed, rule));
        const { low, high } = observed.extremes;
        const reach = Math.max(-low, high);
        const whole = rule.symmetric ? { low: -reach, high: reach } : observed.extremes;
        expect(best).toBeLessThanOrEqual(errorOf(distribution, rule, whole) * (1 + 1e-9));
      }),
      { seed: 1 },
    );
  });

  it("lets an outlier go where that helps the others", () => {
    const observed = observe([...laplace(5000), 30]);
    const { high } = rangeEstimatorNamed("mse").estimate(observed, ruleFor(4, false));
    expect(high).toBeLessThan(20);
  });
});

describe("aciq", () => {
  it.each([
    [2, 2],
    [4, 4.816],
    [8, 9.878],
  ] as const)("knows where to cut off a Laplace density at %d bits", (bits, reach) => {
    const steps = 2 ** (bits - 1) - 1;
    const levelsOf = ({ high }: Range) => ({ first: -high, step: high / steps, count: 2 * steps + 1 });
    const observed = observe([...laplace(200_000), -99, 99]);
    const { low, high } = rangeEstimatorNamed("aciq").estimate(observed, { bits, symmetric: true, levelsOf });
    expect(high / reach).toBeCloseTo(1, 1);
    expect(low).toBeCloseTo(-high, 6);
  });

  it("takes values that are never negative for half a density", () => {
    const values = laplace(200_000).map((value) => Math.max(value, 0));
    const { low, high } = rangeEstimatorNamed("aciq").estimate(observe(values), ruleFor(3, false));
    expect(low).toBe(0);
    expect(high / 4.816).toBeCloseTo(1, 1);
  });
});

describe("percentile", () => {
  it("leaves out one value in ten thousand at each end", () => {
    const values = Array.from({ length: 20_001 }, (_, i) => i - 10_000);
    const { low, high } = rangeEstimatorNamed("percentile").estimate(observe(values), ruleFor(8, false));
    expect([low, high].map(Math.round)).toEqual([-9998, 9998]);
    expect(rangeEstimatorNamed("percentile").estimate(observe(values), ruleFor(8, true)).high).toBeCloseTo(9999, 0);
  });
});

describe("kl", () => {
  it("cuts off a long thin tail", () => {
    const tail = Array.from({ length: 500 }, (_, i) => i / 5);
    const { high } = rangeEstimatorNamed("kl").estimate(observe([...laplace(200_000), ...tail]), ruleFor(8, true));
    expect(high).toBeLessThan(30);
    expect(high).toBeGreaterThan(4);
  });

  it("does the same for mirrored values", () => {
    const values = [...laplace(20_000).map((value) => Math.max(value, 0)), 30];
    const [plain, mirrored] = [values, values.map((value) => -value)].map((given) =>
      rangeEstimatorNamed("kl").estimate(observe(given), ruleFor(8, false)),
    );
    expect(mirrored.low).toBeCloseTo(-plain.high, 9);
  });
});

describe("moving-average", () => {
  it("takes the average where there is one", () => {
    const averageExtremes = { low: -1, high: 2 };
    const observed = { extremes: { low: -3, high: 5 }, averageExtremes };
    expect(rangeEstimatorNamed("moving-average").estimate(observed, ruleFor(8, false))).toEqual(averageExtremes);
    expect(rangeEstimatorNamed("moving-average").estimate(observe([-3, 5]), ruleFor(8, false))).toEqual({
      low: -3,
      high: 5,
    });
  });
});

it("refuses names that are none", () => {
  expect(() => rangeEstimatorNamed("median")).toThrow("median");
});
