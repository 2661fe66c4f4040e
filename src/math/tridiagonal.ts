import { dotProduct } from "./multiply.js";

/** What is nothing beside the largest element, 1. */
const nothing = 1e-20;

/** QᵀAQ with entries beside the diagonal only. */
export interface Tridiagonal {
  /** `[size]`, in units in which the largest element of A is 1. */
  readonly diagonal: Float64Array;
  /** Element i beside the elements i and i + 1 of the diagonal; the last one is zero. `[size]` */
  readonly beside: Float64Array;
  /** Q is their product: row k a vector of length √2 or, where nothing is reflected, 0. `[size, size]` */
  readonly reflections: Float64Array;
  readonly unit: number;
}

/**
 * Householder reflections from both sides until a symmetric matrix is tridiagonal.
 *
 * @param matrix `[size, size]`, symmetric and finite; left unchanged
 * @see Golub and Van Loan, Matrix Computations, section 8.3.1
 */
export function tridiagonalize(matrix: Float64Array, size: number): Tridiagonal {
  const unit = matrix.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) || 1;
  // Only the lower triangle of what is left is kept up to date.
  const a = matrix.map((value) => value / unit);
  const reflections = new Float64Array(size * size);
  for (let k = 0; k < size - 2; k++) {
    const v = reflections.subarray(k * size, (k + 1) * size);
    const [rest, first] = takeColumn(a, size, k, v);
    if (rest < nothing ** 2) {
      v.fill(0);
      continue;
    }
    const length = Math.sqrt(rest + first ** 2);
    v[k + 1] += first >= 0 ? length : -length;
    const unitLength = Math.sqrt(2 / (rest + v[k + 1] ** 2));
    for (let i = k + 1; i < size; i++) v[i] *= unitLength;
    a[(k + 1) * size + k] = first >= 0 ? -length : length;
    reflectBoth(a, size, k + 1, v);
  }
  const diagonal = Float64Array.from({ length: size }, (_, i) => a[i * size + i]);
  const beside = Float64Array.from({ length: size }, (_, i) => (i === size - 1 ? 0 : a[(i + 1) * size + i]));
  return { diagonal, beside, reflections, unit };
}

/** Copies what stands below the diagonal in a column; returns the squares below its first element, and that element. */
function takeColumn(a: Float64Array, size: number, k: number, v: Float64Array): readonly [number, number] {
  let rest = 0;
  for (let i = k + 1; i < size; i++) {
    v[i] = a[i * size + k];
    if (i > k + 1) rest += v[i] ** 2;
  }
  return [rest, v[k + 1]];
}

/** HAH of the rows and columns from `start` on, with H = I − v·vᵀ: that is A − v·wᵀ − w·vᵀ, where w = A·v − (vᵀA·v/2)·v. */
function reflectBoth(a: Float64Array, size: number, start: number, v: Float64Array): void {
  const w = new Float64Array(size);
  let along = 0;
  for (let i = start; i < size; i++) {
    const row = i * size;
    const own = v[i];
    let sum = 0;
    for (let j = start; j < i; j++) {
      const value = a[row + j];
      sum += value * v[j];
      w[j] += value * own;
    }
    w[i] += sum + a[row + i] * own;
  }
  for (let i = start; i < size; i++) along += w[i] * v[i];
  for (let i = start; i < size; i++) w[i] -= (along * v[i]) / 2;
  for (let i = start; i < size; i++) {
    const row = i * size;
    const [vi, wi] = [v[i], w[i]];
    for (let j = start; j <= i; j++) a[row + j] -= vi * w[j] + wi * v[j];
  }
}

/** Takes eigenvectors of the tridiagonal matrix, as rows, to those of the matrix it was made of. */
export function reflectBack(rows: Float64Array, count: number, reflections: Float64Array, size: number): void {
  for (let start = 0; start < count * size; start += size) {
    for (let k = size - 3; k >= 0; k--) {
      const [base, row, length] = [k * size + k + 1, start + k + 1, size - k - 1];
      const along = dotProduct(reflections, base, rows, row, length);
      for (let i = 0; i < length; i++) rows[row + i] -= along * reflections[base + i];
    }
  }
}
