import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { differenceOf, predict, type Rows, sumPairs } from "../../test/pair-sums.js";
import { multiply } from "./multiply.js";
import { addSums, directionGainsElsewhere, fitLinear, gainElsewhere, type PairSums, reduceRanks } from "./ridge.js";

const rows = (columns: number, ...values: readonly number[]): Rows => ({ columns, values: Float64Array.from(values) });

describe("fitLinear", () => {
  it("finds a line by hand", () => {
    const { slope, offset, lambda } = fitLinear(sumPairs(rows(1, 0, 1, 2), rows(1, 5, 7, 9)), 0);
    expect(slope[0]).toBeCloseTo(2, 12);
    expect(offset[0]).toBeCloseTo(5, 12);
    expect(lambda).toBe(0);
  });

  it("takes a ridge in units of the variance, and nothing off the constant", () => {
    // Deviations −1, 0, 1: a sum of squares of 2. With the same again as a ridge half the slope is left.
    const { slope, offset } = fitLinear(sumPairs(rows(1, 10, 11, 12), rows(1, 5, 7, 9)), 1);
    expect(slope[0]).toBeCloseTo(1, 12);
    expect(offset[0]).toBeCloseTo(7 - 11, 12);
  });

  it("raises the ridge where a column says nothing", () => {
    const x = rows(2, 1, 7, 2, 7, 3, 7);
    const { slope, lambda } = fitLinear(sumPairs(x, rows(1, 1, 2, 3)), 0);
    expect(lambda).toBeGreaterThan(0);
    expect(lambda).toBeLessThan(1e-6);
    expect([...slope]).toEqual([expect.closeTo(1, 6), expect.closeTo(0, 6)]);
  });

  it("leaves the mean where the input does not vary", () => {
    const { slope, offset } = fitLinear(sumPairs(rows(2, 3, 3, 3, 3), rows(1, 1, 2)), 0.01);
    expect([...slope]).toEqual([0, 0]);
    expect([...offset]).toEqual([1.5]);
  });

  it("counts a row of weight two as two rows", () => {
    const [x, e] = [rows(1, 1, 2, 4), rows(1, 1, 0, 3)];
    const twice = fitLinear(sumPairs(rows(1, 1, 2, 4, 4), rows(1, 1, 0, 3, 3)), 0.1);
    const weighed = fitLinear(sumPairs(x, e, Float64Array.of(1, 1, 2)), 0.1);
    expect([...weighed.slope, ...weighed.offset]).toEqual([...twice.slope, ...twice.offset]);
  });
});

const entry = fc.double({ min: -3, max: 3, noNaN: true });
const problems = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 8, max: 14 }))
  .chain(([columns, outputs, count]) =>
    fc.record({
      x: fc
        .array(entry, { minLength: columns * count, maxLength: columns * count })
        .map((values) => rows(columns, ...values)),
      e: fc
        .array(entry, { minLength: outputs * count, maxLength: outputs * count })
        .map((values) => rows(outputs, ...values)),
    }),
  );

describe("reduceRanks", () => {
  it("is the fit itself at full rank, and worse the lower the rank", () => {
    fc.assert(
      fc.property(problems, ({ x, e }) => {
        const sums = sumPairs(x, e);
        const fit = fitLinear(sums, 0.05);
        const errors = Array.from({ length: e.columns + 1 }, (_, rank) => {
          const { left, right, offset } = reduceRanks(sums, fit, [rank])[0];
          return penalized(x, e, sums, multiply(left, right, e.columns, rank, x.columns), offset, fit.lambda);
        });
        const best = penalized(x, e, sums, fit.slope, fit.offset, fit.lambda);
        expect(errors[e.columns]).toBeCloseTo(best, 8);
        for (let rank = 1; rank < errors.length; rank++) {
          expect(errors[rank]).toBeLessThanOrEqual(errors[rank - 1] + 1e-9);
        }
      }),
      { seed: 1, numRuns: 60 },
    );
  });

  it("is better than any other matrix of its rank, in the metric of the fit", () => {
    fc.assert(
      fc.property(problems, fc.array(entry, { minLength: 9, maxLength: 9 }), ({ x, e }, others) => {
        const sums = sumPairs(x, e);
        const fit = fitLinear(sums, 0.05);
        const { left, right, offset } = reduceRanks(sums, fit, [1])[0];
        const own = penalized(x, e, sums, multiply(left, right, e.columns, 1, x.columns), offset, fit.lambda);
        const slope = outer(others.slice(0, e.columns), others.slice(4, 4 + x.columns));
        const mean = (sum: Float64Array, i: number) => sum[i] / sums.weight;
        const best = Float64Array.from(sums.e, (_, o) => {
          let sum = mean(sums.e, o);
          for (let k = 0; k < x.columns; k++) sum -= slope[o * x.columns + k] * mean(sums.x, k);
          return sum;
        });
        expect(own).toBeLessThanOrEqual(penalized(x, e, sums, slope, best, fit.lambda) + 1e-9);
      }),
      { seed: 1, numRuns: 60 },
    );
  });
});

describe("gainElsewhere", () => {
  it("tells by how much a fit of each rank lowers the squares about the mean on other rows", () => {
    fc.assert(
      fc.property(problems, (all) => {
        const [[x, otherX], [e, otherE]] = [all.x, all.e].map(inHalves);
        const sums = sumPairs(x, e);
        const fit = fitLinear(sums, 0.05);
        const other = sumPairs(otherX, otherE);
        const whole = gainElsewhere(fit, other);
        const directions = directionGainsElsewhere(sums, fit, other, e.columns);
        const none = new Float64Array(e.columns);
        const gainOf = (slope: Float64Array) =>
          spread(otherE) - spread(differenceOf(otherE, predict(otherX, slope, none)));
        const unit = spread(otherE) + Math.abs(whole) + 1e-9;
        expect(whole / unit).toBeCloseTo(gainOf(fit.slope) / unit, 6);
        let sum = 0;
        for (let rank = 1; rank <= e.columns; rank++) {
          const { left, right } = reduceRanks(sums, fit, [rank])[0];
          sum += directions[rank - 1];
          expect(sum / unit).toBeCloseTo(gainOf(multiply(left, right, e.columns, rank, x.columns)) / unit, 6);
        }
      }),
      { seed: 1, numRuns: 60 },
    );
  });
});

describe("addSums", () => {
  it("sums over the rows of both", () => {
    const [one, other] = [sumPairs(rows(2, 1, 2), rows(1, 3)), sumPairs(rows(2, 4, 5, 6, 7), rows(1, 8, 9))];
    expect(addSums(one, other)).toEqual(sumPairs(rows(2, 1, 2, 4, 5, 6, 7), rows(1, 3, 8, 9)));
  });
});

function outer(left: readonly number[], right: readonly number[]): Float64Array {
  return Float64Array.from(left.flatMap((one) => right.map((other) => one * other)));
}

function inHalves({ columns, values }: Rows): readonly [Rows, Rows] {
  const middle = columns * Math.floor(values.length / columns / 2);
  return [
    { columns, values: values.slice(0, middle) },
    { columns, values: values.slice(middle) },
  ];
}

/** Squares of the deviations from the mean of each column. */
function spread({ columns, values }: Rows): number {
  let sum = 0;
  for (let column = 0; column < columns; column++) {
    const own = values.filter((_, i) => i % columns === column);
    const mean = own.reduce((total, value) => total + value, 0) / own.length;
    sum += own.reduce((total, value) => total + (value - mean) ** 2, 0);
  }
  return sum;
}

/** What the ridge fit minimises, as its definition has it. */
function penalized(
  x: Rows,
  e: Rows,
  sums: PairSums,
  slope: ArrayLike<number>,
  offset: ArrayLike<number>,
  lambda: number,
): number {
  const left = differenceOf(e, predict(x, slope, offset)).values.reduce((sum, value) => sum + value ** 2, 0);
  let variance = 0;
  for (let k = 0; k < x.columns; k++) variance += sums.xx[k * x.columns + k] - sums.x[k] ** 2 / sums.weight;
  const ridge = (lambda * variance) / x.columns;
  return left + ridge * Array.from(slope).reduce((sum, value) => sum + value ** 2, 0);
}
