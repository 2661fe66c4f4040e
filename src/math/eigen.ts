import { inverseIterate } from "./inverse-iteration.js";
import { reflectBack, tridiagonalize } from "./tridiagonal.js";

/** Eigenvalues, largest first, and their eigenvectors as columns. */
export interface Eigen {
  /** `[size]` */
  readonly values: Float64Array;
  /** `[size, size]`, orthonormal columns in the order of the values. */
  readonly vectors: Float64Array;
}

/** More rounds than any matrix has needed. */
const mostRounds = 60;

/**
 * All eigenvalues and eigenvectors of a symmetric matrix: Householder reflections to a tridiagonal one, then QL steps with
 * implicit shifts. Takes about 4 n³ multiplications.
 *
 * @param matrix `[size, size]`, symmetric and finite; left unchanged
 * @see Golub and Van Loan, Matrix Computations, sections 8.3.1 and 8.3.5
 */
export function symmetricEigen(matrix: Float64Array, size: number): Eigen {
  const { diagonal, beside, reflections, unit } = tridiagonalize(matrix, size);
  const rows = identity(size);
  diagonalize(diagonal, beside, size, rows, size);
  reflectBack(rows, size, reflections, size);
  const order = Array.from(diagonal.keys()).sort((a, b) => diagonal[b] - diagonal[a] || a - b);
  const vectors = new Float64Array(size * size);
  for (const [to, from] of order.entries()) {
    for (let i = 0; i < size; i++) vectors[i * size + to] = rows[from * size + i];
  }
  return { values: Float64Array.from(order, (i) => diagonal[i] * unit), vectors };
}

/**
 * The eigenvectors of the largest eigenvalues of a symmetric matrix, each a row, the largest first: those of the tridiagonal
 * matrix by inverse iteration, so that the others cost nothing. Takes about n³ multiplications.
 *
 * @param matrix `[size, size]`, symmetric and finite; left unchanged
 * @returns `[count, size]`, orthonormal
 * @see Golub and Van Loan, Matrix Computations, sections 8.3.1 and 8.4
 */
export function leadingDirections(matrix: Float64Array, size: number, count: number): Float64Array {
  const { diagonal, beside, reflections } = tridiagonalize(matrix, size);
  const values = diagonal.slice();
  diagonalize(values, beside.slice(), size, new Float64Array(), 0);
  const rows = inverseIterate(diagonal, beside, values.sort().reverse().subarray(0, count));
  reflectBack(rows, count, reflections, size);
  return rows;
}

function identity(size: number): Float64Array {
  const matrix = new Float64Array(size * size);
  for (let i = 0; i < size; i++) matrix[i * size + i] = 1;
  return matrix;
}

/**
 * QL steps, from the first eigenvalue to the last; the rows of `vectors` are turned along.
 *
 * @param vectors `[size, columns]`
 */
function diagonalize(d: Float64Array, e: Float64Array, size: number, vectors: Float64Array, columns: number): void {
  for (let low = 0; low < size; low++) {
    for (let round = 0; ; round++) {
      let end = low;
      while (end < size - 1 && !isNegligible(e[end], d[end], d[end + 1])) end++;
      if (end === low) break;
      if (round === mostRounds) throw new Error("the eigenvalues of a matrix do not settle");
      stepOnce(d, e, low, end, vectors, columns);
    }
  }
}

/** One step with the shift that the leading two rows ask for. */
function stepOnce(
  d: Float64Array,
  e: Float64Array,
  low: number,
  end: number,
  vectors: Float64Array,
  columns: number,
): void {
  const ratio = (d[low + 1] - d[low]) / (2 * e[low]);
  const root = Math.hypot(ratio, 1);
  let g = d[end] - d[low] + e[low] / (ratio + (ratio >= 0 ? root : -root));
  let [sine, cosine, p] = [1, 1, 0];
  for (let i = end - 1; i >= low; i--) {
    const f = sine * e[i];
    const b = cosine * e[i];
    const r = Math.hypot(f, g);
    e[i + 1] = r;
    if (r === 0) {
      d[i + 1] -= p;
      e[end] = 0;
      return;
    }
    sine = f / r;
    cosine = g / r;
    const shifted = d[i + 1] - p;
    const turned = (d[i] - shifted) * sine + 2 * cosine * b;
    p = sine * turned;
    d[i + 1] = shifted + p;
    g = cosine * turned - b;
    turnRows(vectors, columns, i, cosine, sine);
  }
  d[low] -= p;
  e[low] = g;
  e[end] = 0;
}

/** Turns two neighbouring rows. */
function turnRows(rows: Float64Array, columns: number, i: number, cosine: number, sine: number): void {
  const [upper, lower] = [i * columns, (i + 1) * columns];
  for (let j = 0; j < columns; j++) {
    const below = rows[lower + j];
    rows[lower + j] = sine * rows[upper + j] + cosine * below;
    rows[upper + j] = cosine * rows[upper + j] - sine * below;
  }
}

/**
 * Beside its neighbours, or beside the largest element, which is 1: what rounding leaves of the rows of a singular matrix does
 * not get any smaller.
 */
function isNegligible(beside: number, one: number, other: number): boolean {
  return Math.abs(beside) <= Number.EPSILON * Math.max(Math.abs(one) + Math.abs(other), 1);
}
