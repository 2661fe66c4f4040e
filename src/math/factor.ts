import { rowProducts } from "./multiply.js";

/** Rows that are finished before what lies above them is brought up to date: they stay in the processor's cache. */
const blockRows = 48;

/**
 * Factorizes a symmetric positive definite matrix A into MᵀM with M lower triangular, from the last row up. Of the matrix
 * only the lower triangle is read; M takes its place, what stands above the diagonal afterwards means nothing.
 *
 * @param matrix `[size, size]`, overwritten
 * @returns whether the matrix is positive definite; where it is not, what it holds then is of no use
 */
export function factorize(matrix: Float64Array, size: number): boolean {
  for (let end = size; end > 0; end -= blockRows) {
    const start = Math.max(0, end - blockRows);
    if (!finishRows(matrix, size, start, end)) return false;
    subtractProducts(matrix, size, start, end);
  }
  return true;
}

/** Turns rows `start` to `end` into rows of M; those behind them are done and taken off already. */
function finishRows(matrix: Float64Array, size: number, start: number, end: number): boolean {
  for (let k = end - 1; k >= start; k--) {
    const row = k * size;
    const square = matrix[row + k];
    if (!(square > 0) || !Number.isFinite(square)) return false;
    const pivot = Math.sqrt(square);
    for (let j = 0; j < k; j++) matrix[row + j] /= pivot;
    matrix[row + k] = pivot;
    for (let i = start; i < k; i++) {
      const factor = matrix[row + i];
      const target = i * size;
      for (let j = 0; j <= i; j++) matrix[target + j] -= factor * matrix[row + j];
    }
  }
  return true;
}

/** Takes what rows `start` to `end` of M explain off the rows above them: two of these and four of those at a time. */
function subtractProducts(matrix: Float64Array, size: number, start: number, end: number): void {
  for (let i = 0; i < start; i += 2) {
    const [upper, lower] = [i * size, Math.min(i + 1, start - 1) * size];
    const last = Math.min(i + 1, start - 1);
    let k = start;
    for (; k + 4 <= end && last > i; k += 4) {
      const [row0, row1, row2, row3] = [k * size, (k + 1) * size, (k + 2) * size, (k + 3) * size];
      const [a0, a1, a2, a3] = [matrix[row0 + i], matrix[row1 + i], matrix[row2 + i], matrix[row3 + i]];
      const [b0, b1, b2, b3] = [matrix[row0 + last], matrix[row1 + last], matrix[row2 + last], matrix[row3 + last]];
      for (let j = 0; j <= last; j++) {
        const x0 = matrix[row0 + j];
        const x1 = matrix[row1 + j];
        const x2 = matrix[row2 + j];
        const x3 = matrix[row3 + j];
        matrix[upper + j] -= a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3;
        matrix[lower + j] -= b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3;
      }
    }
    for (; k < end; k++) {
      for (let target = i; target <= last; target++) {
        const factor = matrix[k * size + target];
        for (let j = 0; j <= target; j++) matrix[target * size + j] -= factor * matrix[k * size + j];
      }
    }
  }
}

/**
 * Solves MᵀM z = b for each row b.
 *
 * @param rows `[rowCount, size]`, overwritten with the solutions
 */
export function solveFactored(factor: Float64Array, size: number, rows: Float64Array, rowCount: number): void {
  solveTransposed(factor, size, rows, rowCount);
  for (let start = 0; start < size; start += blockRows) {
    const end = Math.min(start + blockRows, size);
    const products = rowProducts(rows, rowCount, factor, [start, end], size, start);
    for (let row = 0; row < rowCount; row++) {
      const base = row * size;
      for (let j = start; j < end; j++) {
        let sum = rows[base + j] - products[row * (end - start) + j - start];
        for (let i = start; i < j; i++) sum -= factor[j * size + i] * rows[base + i];
        rows[base + j] = sum / factor[j * size + j];
      }
    }
  }
}

/** Solves Mᵀ y = b for each row b, in its place: from the last element up. */
function solveTransposed(factor: Float64Array, size: number, rows: Float64Array, rowCount: number): void {
  for (let end = size; end > 0; end -= blockRows) {
    const start = Math.max(0, end - blockRows);
    for (let row = 0; row < rowCount; row++) {
      const base = row * size;
      for (let k = end - 1; k >= start; k--) {
        const value = rows[base + k] / factor[k * size + k];
        rows[base + k] = value;
        for (let j = start; j < k; j++) rows[base + j] -= value * factor[k * size + j];
      }
    }
    for (let row = 0; row + 2 <= rowCount; row += 2) subtractSolved(factor, size, rows, row, row + 1, start, end);
    if (rowCount % 2 === 1) subtractSolved(factor, size, rows, rowCount - 1, rowCount - 1, start, end);
  }
}

/** Takes what elements `start` to `end` of two rows, or of one, explain off those before them: four of them at a time. */
function subtractSolved(
  factor: Float64Array,
  size: number,
  rows: Float64Array,
  upper: number,
  lower: number,
  start: number,
  end: number,
): void {
  const [one, other] = [upper * size, lower * size];
  let k = start;
  for (; k + 4 <= end && one !== other; k += 4) {
    const [m0, m1, m2, m3] = [k * size, (k + 1) * size, (k + 2) * size, (k + 3) * size];
    const [a0, a1, a2, a3] = [rows[one + k], rows[one + k + 1], rows[one + k + 2], rows[one + k + 3]];
    const [b0, b1, b2, b3] = [rows[other + k], rows[other + k + 1], rows[other + k + 2], rows[other + k + 3]];
    for (let j = 0; j < start; j++) {
      const x0 = factor[m0 + j];
      const x1 = factor[m1 + j];
      const x2 = factor[m2 + j];
      const x3 = factor[m3 + j];
      rows[one + j] -= a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3;
      rows[other + j] -= b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3;
    }
  }
  for (; k < end; k++) {
    for (const base of one === other ? [one] : [one, other]) {
      const value = rows[base + k];
      for (let j = 0; j < start; j++) rows[base + j] -= value * factor[k * size + j];
    }
  }
}
