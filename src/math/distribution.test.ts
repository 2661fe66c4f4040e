import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { distributionOf } from "./distribution.js";

/** Values with repetitions, and the sorted form of them. */
const someValues = fc
  .array(fc.oneof(fc.integer({ min: -4, max: 4 }), fc.double({ min: -9, max: 9, noNaN: true })), { minLength: 1 })
  .map((values) => Float64Array.from(values).sort());

const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0);

describe("distributionOf", () => {
  it("knows moments", () => {
    fc.assert(
      fc.property(someValues, (values) => {
        const found = distributionOf(values);
        const mean = sum(values) / values.length;
        const positive = values.filter((value) => value > 0);
        expect([found.count, found.low, found.high]).toEqual([values.length, values[0], values.at(-1)]);
        expect(found.mean).toBeCloseTo(mean, 9);
        expect(found.standardDeviation ** 2).toBeCloseTo(sum(values.map((x) => (x - mean) ** 2)) / values.length, 9);
        expect(found.meanDeviation).toBeCloseTo(sum(values.map((x) => Math.abs(x - mean))) / values.length, 9);
        expect(found.positive.mean).toBeCloseTo(sum(positive) / Math.max(positive.length, 1), 9);
        const squares = sum(positive.map((x) => x ** 2)) / Math.max(positive.length, 1);
        expect(found.positive.rootMeanSquare).toBeCloseTo(Math.sqrt(squares), 6);
      }),
      { seed: 1 },
    );
  });

  it("counts what lies below a place, and sums what levels cost", () => {
    const places = fc.double({ min: -10, max: 10, noNaN: true });
    fc.assert(
      fc.property(
        someValues,
        places,
        fc.double({ min: 0.1, max: 3, noNaN: true }),
        fc.nat(20),
        (values, place, step, n) => {
          const found = distributionOf(values);
          expect(found.countBelow(place)).toBe(values.filter((value) => value < place).length);
          const levels = Array.from({ length: n + 1 }, (_, i) => place + i * step);
          const errors = Array.from(values, (x) => Math.min(...levels.map((level) => (x - level) ** 2)));
          expect(found.squaredError(place, step, n + 1)).toBeCloseTo(sum(errors), 6);
        },
      ),
      { seed: 1 },
    );
  });

  it("sums what levels cost that values between borders become", () => {
    const places = fc.array(fc.double({ min: -10, max: 10, noNaN: true }), { maxLength: 6 });
    fc.assert(
      fc.property(someValues, places, (values, given) => {
        const borders = given.sort((a, b) => a - b);
        const levels = [-11, ...borders.map((border) => border + 0.25)];
        const errors = Array.from(values, (x) => (x - levels[borders.filter((border) => border <= x).length]) ** 2);
        expect(distributionOf(values).squaredErrorBetween(levels, borders)).toBeCloseTo(sum(errors), 6);
      }),
      { seed: 1 },
    );
  });

  it("is the same with counts as with repetitions", () => {
    fc.assert(
      fc.property(someValues, fc.double({ min: 0, max: 1, noNaN: true }), (values, share) => {
        const distinct = [...new Set(values)];
        const counts = distinct.map((value) => values.filter((other) => other === value).length);
        const [plain, counted] = [
          distributionOf(values),
          distributionOf(Float64Array.from(distinct), Float64Array.from(counts)),
        ];
        expect(counted.quantile(share)).toBeCloseTo(plain.quantile(share), 9);
        expect(counted.magnitudes().quantile(share)).toBeCloseTo(plain.magnitudes().quantile(share), 9);
        expect(counted.squaredError(-2, 0.5, 9)).toBeCloseTo(plain.squaredError(-2, 0.5, 9), 6);
      }),
      { seed: 1 },
    );
  });

  it("interpolates between neighbours", () => {
    const found = distributionOf(Float64Array.of(-4, 0, 1, 3));
    expect([0, 0.5, 1].map((share) => found.quantile(share))).toEqual([-4, 0.5, 3]);
    expect([0, 0.5, 1].map((share) => found.magnitudes().quantile(share))).toEqual([0, 2, 4]);
  });

  it("takes nothing for a zero", () => {
    expect(distributionOf(new Float64Array())).toMatchObject({ count: 1, low: 0, high: 0, mean: 0 });
  });
});
