import { float64Values } from "../src/tensor/tensor.js";
import { nearest } from "./fake-quantize.js";
import { someFloats } from "./models.js";

/** A matrix as rows of plain numbers. */
export type Matrix = readonly (readonly number[])[];

/** real = (code - zeroPoint) · scale. */
export interface PlainGrid {
  readonly scale: number;
  readonly zeroPoint: number;
}

/** What the slow rounding is told. */
export interface SlowRounding {
  readonly order: "activation" | "natural";
  readonly damping: number;
  readonly low: number;
  readonly high: number;
  /** The grid of an element. */
  readonly gridOf: (row: number, column: number) => PlainGrid;
  /** Groups that get their grids when their turn comes: runs of so many columns in the order of rounding. */
  readonly dynamic?: {
    readonly groupSize: number;
    readonly choose: (values: readonly number[]) => PlainGrid;
  };
}

export interface SlowlyRounded {
  /** `[rows, columns]` */
  readonly codes: number[][];
  readonly values: number[][];
  /** Of each row those that were chosen on the way. */
  readonly grids: PlainGrid[][];
}

/** Numbers that are the same in every run, between -1 and 1. */
export function someMatrix(rows: number, columns: number, seed: number): Matrix {
  const values = float64Values(someFloats([rows, columns], seed));
  return Array.from({ length: rows }, (_, row) => [...values.slice(row * columns, (row + 1) * columns)]);
}

/** What a layer might read: columns that go together, some of them much larger than others. */
export function someInputs(rows: number, columns: number, seed: number): number[][] {
  const hidden = someMatrix(rows, 5, seed);
  const mixing = someMatrix(5, columns, seed + 1);
  const noise = someMatrix(rows, columns, seed + 2);
  return noise.map((own, i) =>
    own.map((value, c) => {
      const common = hidden[i].reduce((sum, part, k) => sum + part * mixing[k][c], 0);
      return (common + 0.3 * value) * (c % 7 === 3 ? 6 : 1);
    }),
  );
}

/** AᵀB. */
export function productsOf(left: Matrix, right: Matrix): number[][] {
  const columns = right[0]?.length ?? 0;
  return Array.from({ length: left[0]?.length ?? 0 }, (_, i) =>
    Array.from({ length: columns }, (__, j) => left.reduce((sum, row, r) => sum + row[i] * right[r][j], 0)),
  );
}

export function flat(matrix: Matrix): Float64Array {
  return Float64Array.from(matrix.flat());
}

/** Inverse of a matrix, by elimination with the largest pivot. */
export function invert(matrix: Matrix): number[][] {
  const size = matrix.length;
  const work = matrix.map((row, i) => [...row, ...Array.from({ length: size }, (_, j) => (i === j ? 1 : 0))]);
  for (let k = 0; k < size; k++) {
    let pivot = k;
    for (let i = k + 1; i < size; i++) if (Math.abs(work[i][k]) > Math.abs(work[pivot][k])) pivot = i;
    [work[k], work[pivot]] = [work[pivot], work[k]];
    const own = work[k].map((value) => value / work[k][k]);
    work[k] = own;
    for (let i = 0; i < size; i++) {
      const factor = work[i][k];
      if (i === k || factor === 0) continue;
      work[i] = work[i].map((value, j) => value - factor * own[j]);
    }
  }
  return work.map((row) => row.slice(size));
}

/** XᵀX with what is added to its diagonal: a share of its mean, and all of the mean where a column is zero throughout. */
export function dampedGram(inputs: Matrix, damping: number): number[][] {
  const gram = productsOf(inputs, inputs);
  const live = gram.map((row, i) => row[i]).filter((value) => value > 0);
  const mean = live.length === 0 ? 1 : live.reduce((sum, value) => sum + value, 0) / live.length;
  return gram.map((row, i) => row.map((v, j) => (i === j ? v + damping * mean + (v > 0 ? 0 : mean) : v)));
}

/** Δ with (XᵀX + λ) Δ = XᵀE for each row of EᵀX. */
export function ridge(inputs: Matrix, cross: Matrix, damping: number): number[][] {
  const inverse = invert(dampedGram(inputs, damping));
  return cross.map((row) => inverse.map((line) => line.reduce((sum, value, k) => sum + value * row[k], 0)));
}

/**
 * GPTQ as a person would do it by hand: after each column all later ones are updated by the inverse of what is left of the
 * damped Gram matrix.
 */
export function roundSlowly(inputs: Matrix, rows: Matrix, options: SlowRounding): SlowlyRounded {
  const { order, damping, low, high, dynamic } = options;
  const size = rows[0].length;
  const gram = productsOf(inputs, inputs);
  const columns = Array.from({ length: size }, (_, i) => i);
  if (order === "activation") columns.sort((a, b) => gram[b][b] - gram[a][a] || a - b);
  const damped = dampedGram(inputs, damping);
  let inverse = invert(columns.map((i) => columns.map((j) => damped[i][j])));
  const left = rows.map((row) => columns.map((column) => row[column]));
  const codes = rows.map((row) => row.map(() => 0));
  const values = rows.map((row) => row.map(() => 0));
  const grids: PlainGrid[][] = rows.map(() => []);
  for (let j = 0; j < size; j++) {
    for (const [row, own] of left.entries()) {
      if (dynamic !== undefined && j % dynamic.groupSize === 0) {
        grids[row].push(dynamic.choose(own.slice(j, j + dynamic.groupSize)));
      }
      const { scale, zeroPoint } = grids[row].at(-1) ?? options.gridOf(row, columns[j]);
      const code = Math.min(Math.max(nearest(own[j] / scale) + zeroPoint, low), high);
      const value = (code - zeroPoint) * scale;
      const error = (own[j] - value) / inverse[j][j];
      for (let k = j + 1; k < size; k++) own[k] -= error * inverse[j][k];
      codes[row][columns[j]] = code;
      values[row][columns[j]] = value;
    }
    const pivot = inverse[j];
    inverse = inverse.map((line, i) => (i <= j ? line : line.map((v, k) => v - (line[j] * pivot[k]) / pivot[j])));
  }
  return { codes, values, grids };
}

/** |X(w - q)|² of each row. */
export function outputErrorsOf(inputs: Matrix, rows: Matrix, others: Matrix): number[] {
  return rows.map((row, r) =>
    inputs.reduce((sum, x) => sum + x.reduce((dot, value, k) => dot + value * (row[k] - others[r][k]), 0) ** 2, 0),
  );
}

/** Rows of so many columns. */
export function rowsOf(values: ArrayLike<number>, rowCount: number): number[][] {
  const size = values.length / rowCount;
  const all = Array.from(values);
  return Array.from({ length: rowCount }, (_, row) => all.slice(row * size, (row + 1) * size));
}
