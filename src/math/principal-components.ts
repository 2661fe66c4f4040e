import { symmetricEigen } from "./eigen.js";
import { multiply } from "./multiply.js";
import { createRandom } from "./random.js";

/** Directions beyond those asked for: they make the iteration converge where eigenvalues lie close together. */
const spare = 8;
/** Directions that are not told apart by then have the same variance: any in their plane do. */
const mostRounds = 100;
/** The iteration ends where no variance changes by more than this share of the largest. Those of the directions are its root. */
const tolerance = 1e-12;
/** Directions with less than this share of the largest variance are rounding errors. */
const leastVariance = 1e-12;

/** The directions in which points differ most. */
export interface PrincipalComponents {
  /** `[columns]` */
  readonly mean: Float64Array;
  /** How many there are: fewer than asked for where the points do not differ in so many directions. */
  readonly count: number;
  /** `[columns, count]`: orthonormal columns, the one of the largest variance first. */
  readonly directions: Float64Array;
  /** Variance along each, divided by the number of points. `[count]` */
  readonly variances: Float64Array;
}

/**
 * Principal components of points, by subspace iteration: the covariance is applied to a few directions and never written
 * down, so a thousand columns cost little. Of a direction's two signs the one with which its entry of largest magnitude is
 * positive.
 *
 * @param points `[rows, columns]`, one row at least, finite
 * @see Golub and Van Loan, Matrix Computations, section 8.2.4
 */
export function principalComponents(points: Float64Array, columns: number, count: number): PrincipalComponents {
  const rows = points.length / columns;
  const mean = columnMeans(points, columns);
  const centred = points.map((value, i) => value - mean[i % columns]);
  const width = Math.min(columns, rows, count + spare);
  const random = createRandom(0);
  let basis = Float64Array.from({ length: columns * width }, () => random.next() / 2 ** 32 - 0.5);
  orthonormalize(basis, columns, width);
  let variances: Float64Array = new Float64Array(width);
  for (let round = 0; round < mostRounds; round++) {
    const applied = applyCovariance(centred, rows, columns, basis, width);
    const inside = symmetricEigen(symmetricProduct(basis, applied, columns, width), width);
    const changes = variances.subarray(0, count).map((value, i) => Math.abs(value - inside.values[i]));
    variances = inside.values;
    if (changes.every((change) => change <= tolerance * variances[0])) {
      basis = multiply(basis, inside.vectors, columns, width, width);
      break;
    }
    basis = multiply(applied, inside.vectors, columns, width, width);
    orthonormalize(basis, columns, width);
  }
  const found = variances.subarray(0, count).filter((variance) => variance > leastVariance * variances[0]).length;
  const directions = new Float64Array(columns * found);
  for (let c = 0; c < found; c++) {
    const sign = signOf(basis, columns, width, c);
    for (let row = 0; row < columns; row++) directions[row * found + c] = sign * basis[row * width + c];
  }
  return { mean, count: found, directions, variances: variances.slice(0, found) };
}

/**
 * Where points lie along the components, from the mean.
 *
 * @param points `[rows, columns]`
 * @returns `[rows, count]`
 */
export function projectOnto(points: Float64Array, { mean, count, directions }: PrincipalComponents): Float64Array {
  const columns = mean.length;
  const centred = points.map((value, i) => value - mean[i % columns]);
  return multiply(centred, directions, points.length / columns, columns, count);
}

/** @returns `[columns]` */
export function columnMeans(points: Float64Array, columns: number): Float64Array {
  const sums = new Float64Array(columns);
  for (let i = 0; i < points.length; i++) sums[i % columns] += points[i];
  const rows = points.length / columns;
  return sums.map((sum) => sum / rows);
}

/** XᵀX · basis / rows. `[columns, width]` */
function applyCovariance(
  points: Float64Array,
  rows: number,
  columns: number,
  basis: Float64Array,
  width: number,
): Float64Array<ArrayBuffer> {
  const along = multiply(points, basis, rows, columns, width);
  const applied = new Float64Array(columns * width);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const value = points[row * columns + column] / rows;
      for (let i = 0; i < width; i++) applied[column * width + i] += value * along[row * width + i];
    }
  }
  return applied;
}

/** AᵀB of two `[rows, width]` whose product is symmetric but for rounding. */
function symmetricProduct(a: Float64Array, b: Float64Array, rows: number, width: number): Float64Array {
  const product = new Float64Array(width * width);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) {
      for (let j = 0; j < width; j++) product[i * width + j] += a[row * width + i] * b[row * width + j];
    }
  }
  return product.map((value, at) => (value + product[(at % width) * width + Math.floor(at / width)]) / 2);
}

/** Gram and Schmidt, each direction twice: once leaves too much of the others where they lie close together. */
function orthonormalize(basis: Float64Array, rows: number, width: number): void {
  for (let column = 0; column < width; column++) {
    for (let pass = 0; pass < 2; pass++) {
      for (let other = 0; other < column; other++) {
        let along = 0;
        for (let row = 0; row < rows; row++) along += basis[row * width + other] * basis[row * width + column];
        for (let row = 0; row < rows; row++) basis[row * width + column] -= along * basis[row * width + other];
      }
      let square = 0;
      for (let row = 0; row < rows; row++) square += basis[row * width + column] ** 2;
      // Zero where there are no more directions.
      const factor = square > 0 ? 1 / Math.sqrt(square) : 0;
      for (let row = 0; row < rows; row++) basis[row * width + column] *= factor;
    }
  }
}

function signOf(basis: Float64Array, rows: number, width: number, column: number): number {
  let largest = 0;
  for (let row = 0; row < rows; row++) {
    const value = basis[row * width + column];
    if (Math.abs(value) > Math.abs(largest)) largest = value;
  }
  return largest < 0 ? -1 : 1;
}
