import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { differenceOf, mapRows, predict, type Rows, rowsOf, sumPairs } from "../../test/pair-sums.js";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { readNpz } from "../data/npz.js";
import { multiply } from "../math/multiply.js";
import { fitLinear, reduceRanks } from "../math/ridge.js";
import { float64Values, type Tensor } from "../tensor/tensor.js";

type Arrays = ReadonlyMap<string, Tensor>;

const readOracle = (name: string): Arrays => readNpz(readFileSync(sharedPath("oracles", `${name}.npz`)));
const valuesOf = (arrays: Arrays, name: string) => float64Values(arrays.get(name) as Tensor);
const numberOf = (arrays: Arrays, name: string) => valuesOf(arrays, name)[0];

describe.skipIf(!sharedFolder)("fits of blocks against the reference program", () => {
  it.each(["qwt-tokens", "qwt-rect", "qwt-rankdef"])("%s: linear, weighted, of low rank", (name) => {
    const arrays = readOracle(name);
    const [x, yq, y] = ["x", "y_q", "y_fp"].map((key) => rowsOf(arrays.get(key) as Tensor));
    const e = differenceOf(y, yq);
    const sums = sumPairs(x, e);
    const fit = fitLinear(sums, numberOf(arrays, "ridge"));
    expectClose(turned(fit.slope, x.columns), valuesOf(arrays, "W"));
    expectClose(fit.offset, valuesOf(arrays, "b"));
    const corrected = predict(x, fit.slope, fit.offset).values.map((value, i) => value + yq.values[i]);
    expectClose(corrected, valuesOf(arrays, "y_comp"));
    const weighed = fitLinear(sumPairs(x, e, valuesOf(arrays, "token_weight")), numberOf(arrays, "ridge"));
    expectClose(turned(weighed.slope, x.columns), valuesOf(arrays, "W_weighted"));
    expectClose(weighed.offset, valuesOf(arrays, "b_weighted"));
    for (const rank of [1, 4]) {
      const { left, right, offset } = reduceRanks(sums, fit, [rank])[0];
      const slope = multiply(left, right, e.columns, rank, x.columns);
      expectClose(turned(slope, x.columns), valuesOf(arrays, `W_rank${rank}`));
      expectClose(offset, valuesOf(arrays, `b_rank${rank}`));
    }
  });

  it.each(["nbc-tokens", "nbc-rect"])("%s: on a logarithmic scale", (name) => {
    const arrays = readOracle(name);
    const [x, yq, y] = ["x", "y_q", "y_fp"].map((key) => rowsOf(arrays.get(key) as Tensor));
    const e = differenceOf(y, yq);
    const ridge = numberOf(arrays, "ridge");
    const [scaleX, scaleE] = [numberOf(arrays, "scale_x"), numberOf(arrays, "scale_e")];
    const size = x.columns * e.columns;
    for (const [i, alpha] of valuesOf(arrays, "alpha").entries()) {
      // Without the factors s/α of the transform the matrix has them: W takes the input's away and brings the error's.
      const fit = fitLinear(sumPairs(logarithm(x, alpha / scaleX), logarithm(e, alpha / scaleE)), ridge);
      const slope = fit.slope.map((value) => (value * scaleE) / scaleX);
      expectClose(turned(slope, x.columns), valuesOf(arrays, "W").subarray(i * size, (i + 1) * size));
      const offset = fit.offset.map((value) => (value * scaleE) / alpha);
      expectClose(offset, valuesOf(arrays, "b").subarray(i * e.columns, (i + 1) * e.columns));
      const bent = logarithm(x, alpha / scaleX);
      const ofInput = fitLinear(sumPairs(bent, e), ridge);
      const slopeOfInput = ofInput.slope.map((value) => (value * alpha) / scaleX);
      expectClose(turned(slopeOfInput, x.columns), valuesOf(arrays, "W_input_only").subarray(i * size, (i + 1) * size));
      expectClose(ofInput.offset, valuesOf(arrays, "b_input_only").subarray(i * e.columns, (i + 1) * e.columns));
      expectError(e, predict(bent, ofInput.slope, ofInput.offset), valuesOf(arrays, "mse_input_only")[i]);
    }
    const plain = fitLinear(sumPairs(logarithm(x, 1), logarithm(e, 1)), ridge);
    expectClose(turned(plain.slope, x.columns), valuesOf(arrays, "W_plain"));
    expectClose(plain.offset, valuesOf(arrays, "b_plain"));
    const linear = fitLinear(sumPairs(x, e), ridge);
    expectClose(turned(linear.slope, x.columns), valuesOf(arrays, "W_qwt"));
    expectClose(linear.offset, valuesOf(arrays, "b_qwt"));
    expectError(e, predict(x, linear.slope, linear.offset), numberOf(arrays, "mse_qwt"));
  });
});

function logarithm(rows: Rows, unit: number): Rows {
  return mapRows(rows, (value) => Math.sign(value) * Math.log1p(unit * Math.abs(value)));
}

/** The reference has its matrices as `[K, O]`. */
function turned(slope: Float64Array, columns: number): Float64Array {
  const outputs = slope.length / columns;
  return slope.map((_, i) => slope[(i % outputs) * columns + Math.floor(i / outputs)]);
}

/** The mean square of what a prediction leaves of an error. */
function expectError(e: Rows, predicted: Rows, expected: number): void {
  const left = differenceOf(e, predicted).values;
  const found = left.reduce((sum, value) => sum + value * value, 0) / left.length;
  expect(Math.abs(found / expected - 1)).toBeLessThan(1e-9);
}

/** Relative to the largest number, as the oracle's own page says. */
function expectClose(actual: Float64Array, expected: Float64Array): void {
  expect(actual.length).toBe(expected.length);
  const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  let largest = 0;
  for (const [i, value] of expected.entries()) largest = Math.max(largest, Math.abs(value - actual[i]) / scale);
  expect(largest).toBeLessThan(1e-9);
}
