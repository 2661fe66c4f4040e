import { multiply } from "./multiply.js";

/** Eigenvalues, largest first, and their eigenvectors as columns. */
export interface Eigen {
  /** `[size]` */
  readonly values: Float64Array;
  /** `[size, size]`, orthonormal columns in the order of the values. */
  readonly vectors: Float64Array;
}

/** More rounds than any matrix has needed. */
const mostRounds = 60;

/** What is nothing beside the largest element, 1. */
const nothing = 1e-20;

/**
 * All eigenvalues and eigenvectors of a symmetric matrix: Householder reflections to a tridiagonal one, then QL steps with
 * implicit shifts. Takes about 5 n³ multiplications.
 *
 * @param matrix `[size, size]`, symmetric and finite; left unchanged
 * @see Golub and Van Loan, Matrix Computations, sections 8.3.1 and 8.3.5
 */
export function symmetricEigen(matrix: Float64Array, size: number): Eigen {
  const unit = matrix.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) || 1;
  const rows = identity(size);
  const work = matrix.map((value) => value / unit);
  const { diagonal, beside } = tridiagonalize(work, size, rows);
  diagonalize(diagonal, beside, size, rows);
  const order = Array.from(diagonal.keys()).sort((a, b) => diagonal[b] - diagonal[a] || a - b);
  const vectors = new Float64Array(size * size);
  for (const [to, from] of order.entries()) {
    for (let i = 0; i < size; i++) vectors[i * size + to] = rows[from * size + i];
  }
  return { values: Float64Array.from(order, (i) => diagonal[i] * unit), vectors };
}

/** Directions that are iterated besides those that are wanted. */
const spareDirections = 8;
const iterations = 24;

/**
 * The eigenvectors of the largest eigenvalues of a symmetric matrix without negative ones, each a row, the largest first.
 * Of a large matrix a few are found by iterating a subspace, the others are not computed.
 *
 * @param matrix `[size, size]`
 * @returns `[count, size]`
 * @see Golub and Van Loan, Matrix Computations, section 8.2.4
 */
export function leadingDirections(matrix: Float64Array, size: number, count: number): Float64Array {
  const width = count + spareDirections;
  if (4 * width > size) return columnsAsRows(symmetricEigen(matrix, size).vectors, size, size, count);
  // Columns of the matrix itself are a start that is the same in every run.
  let basis = orthonormal(matrix.slice(0, width * size), width, size);
  for (let i = 0; i < iterations; i++) basis = orthonormal(multiply(basis, matrix, width, size, size), width, size);
  const image = multiply(basis, matrix, width, size, size);
  const small = new Float64Array(width * width);
  for (let i = 0; i < width; i++) {
    for (let j = 0; j <= i; j++) {
      let product = 0;
      for (let k = 0; k < size; k++) product += image[i * size + k] * basis[j * size + k];
      small[i * width + j] = small[j * width + i] = product;
    }
  }
  const turned = columnsAsRows(symmetricEigen(small, width).vectors, width, width, count);
  return multiply(turned, basis, count, width, size);
}

function columnsAsRows(matrix: Float64Array, rows: number, columns: number, count: number): Float64Array {
  return Float64Array.from({ length: count * rows }, (_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)]);
}

/** Rows of length 1 at right angles that span the same; rows that depend on those before them become zero. */
function orthonormal(rows: Float64Array, count: number, size: number): Float64Array {
  for (let i = 0; i < count; i++) {
    const own = rows.subarray(i * size, (i + 1) * size);
    const before = lengthOf(own);
    // Twice: once leaves what rounding made of nearly parallel rows.
    for (const _ of [0, 1]) {
      for (let j = 0; j < i; j++) {
        let along = 0;
        for (let k = 0; k < size; k++) along += own[k] * rows[j * size + k];
        for (let k = 0; k < size; k++) own[k] -= along * rows[j * size + k];
      }
    }
    const length = lengthOf(own);
    const factor = length > 1e-12 * before ? 1 / length : 0;
    for (let k = 0; k < size; k++) own[k] *= factor;
  }
  return rows;
}

function lengthOf(row: Float64Array): number {
  return Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
}

function identity(size: number): Float64Array {
  const matrix = new Float64Array(size * size);
  for (let i = 0; i < size; i++) matrix[i * size + i] = 1;
  return matrix;
}

/** Turns A into QᵀAQ with entries beside the diagonal only; the rows of `vectors` are taken along. */
function tridiagonalize(a: Float64Array, size: number, vectors: Float64Array) {
  for (let k = 0; k < size - 2; k++) {
    const v = new Float64Array(size);
    let rest = 0;
    for (let i = k + 1; i < size; i++) {
      v[i] = a[k * size + i];
      if (i > k + 1) rest += v[i] ** 2;
    }
    if (rest < nothing ** 2) continue;
    const length = Math.sqrt(rest + v[k + 1] ** 2);
    v[k + 1] += v[k + 1] >= 0 ? length : -length;
    const scale = 2 / (rest + v[k + 1] ** 2);
    // With p = scale·A·v and w = p − (scale·pᵀv/2)·v the reflected matrix is A − v·wᵀ − w·vᵀ.
    const p = new Float64Array(size);
    let along = 0;
    for (let i = k; i < size; i++) {
      let sum = 0;
      for (let j = k + 1; j < size; j++) sum += a[i * size + j] * v[j];
      p[i] = scale * sum;
      along += p[i] * v[i];
    }
    for (let i = k; i < size; i++) p[i] -= (scale * along * v[i]) / 2;
    for (let i = k; i < size; i++) {
      for (let j = k; j < size; j++) a[i * size + j] -= v[i] * p[j] + p[i] * v[j];
    }
    reflectRows(vectors, size, v, scale, k + 1);
  }
  const diagonal = Float64Array.from({ length: size }, (_, i) => a[i * size + i]);
  const beside = Float64Array.from({ length: size }, (_, i) => (i === size - 1 ? 0 : a[(i + 1) * size + i]));
  return { diagonal, beside };
}

/** Row i becomes row i less scale·v_i times the sum of all rows weighted by v. */
function reflectRows(rows: Float64Array, size: number, v: Float64Array, scale: number, start: number): void {
  const sum = new Float64Array(size);
  for (let i = start; i < size; i++) {
    for (let j = 0; j < size; j++) sum[j] += v[i] * rows[i * size + j];
  }
  for (let i = start; i < size; i++) {
    const factor = scale * v[i];
    for (let j = 0; j < size; j++) rows[i * size + j] -= factor * sum[j];
  }
}

/** QL steps, from the first eigenvalue to the last; the rows of `vectors` are turned along. */
function diagonalize(d: Float64Array, e: Float64Array, size: number, vectors: Float64Array): void {
  for (let low = 0; low < size; low++) {
    for (let round = 0; ; round++) {
      let end = low;
      while (end < size - 1 && !isNegligible(e[end], d[end], d[end + 1])) end++;
      if (end === low) break;
      if (round === mostRounds) throw new Error("the eigenvalues of a matrix do not settle");
      stepOnce(d, e, low, end, size, vectors);
    }
  }
}

/** One step with the shift that the leading two rows ask for. */
function stepOnce(
  d: Float64Array,
  e: Float64Array,
  low: number,
  end: number,
  size: number,
  vectors: Float64Array,
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
    turnRows(vectors, size, i, cosine, sine);
  }
  d[low] -= p;
  e[low] = g;
  e[end] = 0;
}

/** Turns two neighbouring rows. */
function turnRows(rows: Float64Array, size: number, i: number, cosine: number, sine: number): void {
  const [upper, lower] = [i * size, (i + 1) * size];
  for (let j = 0; j < size; j++) {
    const below = rows[lower + j];
    rows[lower + j] = sine * rows[upper + j] + cosine * below;
    rows[upper + j] = cosine * rows[upper + j] - sine * below;
  }
}

function isNegligible(beside: number, one: number, other: number): boolean {
  return Math.abs(beside) <= Math.max(Number.EPSILON * (Math.abs(one) + Math.abs(other)), nothing);
}
