import type { PairSums } from "../src/math/ridge.js";
import { float64Values, type Tensor } from "../src/tensor/tensor.js";

/** Rows of numbers, one behind the other. */
export interface Rows {
  readonly columns: number;
  readonly values: Float64Array;
}

/** What lies along the last axis. */
export function rowsOf(tensor: Tensor): Rows {
  return { columns: tensor.shape.at(-1) ?? 1, values: float64Values(tensor) };
}

export function mapRows({ columns, values }: Rows, change: (value: number, column: number) => number): Rows {
  return { columns, values: values.map((value, i) => change(value, i % columns)) };
}

export function differenceOf(left: Rows, right: Rows): Rows {
  return { columns: left.columns, values: left.values.map((value, i) => value - right.values[i]) };
}

/** Sums as their definition has it. */
export function sumPairs(x: Rows, e: Rows, weights?: Float64Array): PairSums {
  const count = x.values.length / x.columns;
  const sums = {
    weight: 0,
    x: new Float64Array(x.columns),
    e: new Float64Array(e.columns),
    xx: new Float64Array(x.columns * x.columns),
    ex: new Float64Array(e.columns * x.columns),
    ee: new Float64Array(e.columns),
  };
  for (let row = 0; row < count; row++) {
    const weight = weights?.[row] ?? 1;
    const own = x.values.subarray(row * x.columns, (row + 1) * x.columns);
    const error = e.values.subarray(row * e.columns, (row + 1) * e.columns);
    sums.weight += weight;
    for (let i = 0; i < x.columns; i++) {
      sums.x[i] += weight * own[i];
      for (let j = 0; j < x.columns; j++) sums.xx[i * x.columns + j] += weight * own[i] * own[j];
    }
    for (let o = 0; o < e.columns; o++) {
      sums.e[o] += weight * error[o];
      sums.ee[o] += weight * error[o] ** 2;
      for (let j = 0; j < x.columns; j++) sums.ex[o * x.columns + j] += weight * error[o] * own[j];
    }
  }
  return sums;
}

/** e ≈ W x + b of every row. `slope` is `[O, K]` */
export function predict(x: Rows, slope: ArrayLike<number>, offset: ArrayLike<number>): Rows {
  const outputs = offset.length;
  const count = x.values.length / x.columns;
  const values = Float64Array.from({ length: count * outputs }, (_, i) => {
    const [row, o] = [Math.floor(i / outputs), i % outputs];
    let sum = offset[o];
    for (let k = 0; k < x.columns; k++) sum += slope[o * x.columns + k] * x.values[row * x.columns + k];
    return sum;
  });
  return { columns: outputs, values };
}
