/** Where turning rows and columns any further changes nothing: matrices of this size need about ten sweeps. */
const mostSweeps = 60;

/** Eigenvalues, largest first, and their eigenvectors as columns. */
export interface Eigen {
  /** `[size]` */
  readonly values: Float64Array;
  /** `[size, size]`, orthonormal columns in the order of the values. */
  readonly vectors: Float64Array;
}

/**
 * All eigenvalues and eigenvectors of a small symmetric matrix, by turns of two rows and columns at a time that bring what
 * stands off the diagonal to zero (Jacobi). Takes time with the third power of the size.
 *
 * @param matrix `[size, size]`, symmetric and finite; left unchanged
 * @see Golub and Van Loan, Matrix Computations, section 8.5
 */
export function symmetricEigen(matrix: Float64Array, size: number): Eigen {
  const work = matrix.slice();
  const vectors = new Float64Array(size * size);
  for (let i = 0; i < size; i++) vectors[i * size + i] = 1;
  for (let sweep = 0; sweep < mostSweeps; sweep++) {
    let isChanged = false;
    for (let p = 0; p < size; p++) {
      for (let q = p + 1; q < size; q++) if (turn(work, vectors, size, p, q)) isChanged = true;
    }
    if (!isChanged) break;
  }
  const order = Array.from({ length: size }, (_, i) => i).sort((a, b) => work[b * size + b] - work[a * size + a]);
  const sorted = new Float64Array(size * size);
  for (let row = 0; row < size; row++) {
    for (const [to, from] of order.entries()) sorted[row * size + to] = vectors[row * size + from];
  }
  return { values: Float64Array.from(order, (i) => work[i * size + i]), vectors: sorted };
}

/** Turns rows and columns p and q so that the element between them vanishes; returns whether it was anything. */
function turn(work: Float64Array, vectors: Float64Array, size: number, p: number, q: number): boolean {
  const between = work[p * size + q];
  const [first, second] = [work[p * size + p], work[q * size + q]];
  // What does not change the diagonal in float64 is nothing.
  if (Math.abs(between) <= 1e-17 * (Math.abs(first) + Math.abs(second))) return false;
  const ratio = (second - first) / (2 * between);
  // The smaller of the two angles that do it.
  const tangent = (ratio >= 0 ? 1 : -1) / (Math.abs(ratio) + Math.sqrt(ratio * ratio + 1));
  const cosine = 1 / Math.sqrt(tangent * tangent + 1);
  const sine = tangent * cosine;
  for (let i = 0; i < size; i++) rotate(work, i * size + p, i * size + q, cosine, sine);
  for (let i = 0; i < size; i++) rotate(work, p * size + i, q * size + i, cosine, sine);
  for (let i = 0; i < size; i++) rotate(vectors, i * size + p, i * size + q, cosine, sine);
  work[p * size + q] = 0;
  work[q * size + p] = 0;
  return true;
}

function rotate(values: Float64Array, first: number, second: number, cosine: number, sine: number): void {
  const [a, b] = [values[first], values[second]];
  values[first] = cosine * a - sine * b;
  values[second] = sine * a + cosine * b;
}
