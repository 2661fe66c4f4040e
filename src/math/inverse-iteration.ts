import { dotProduct } from "./multiply.js";
import { createRandom } from "./random.js";

/** One round is enough where eigenvalues lie apart, the others tell close ones apart. */
const rounds = 3;

/**
 * How far from an eigenvalue is iterated, where the largest element is 1. Exactly at it one of several equal eigenvalues can be
 * met so much more closely than the others that nothing of their vectors is left; from here they look alike.
 */
const besideValue = 16 * Number.EPSILON;

/**
 * Eigenvectors of a tridiagonal matrix, each a row, at right angles to those before it, so that close eigenvalues lead to
 * different ones.
 *
 * @param diagonal `[size]`
 * @param beside element i beside the elements i and i + 1 of the diagonal; the last one is zero. `[size]`
 * @param values eigenvalues, `[count]`
 * @returns `[count, size]`, orthonormal
 * @see Golub and Van Loan, Matrix Computations, section 8.4.2
 */
export function inverseIterate(diagonal: Float64Array, beside: Float64Array, values: Float64Array): Float64Array {
  const size = diagonal.length;
  const rows = new Float64Array(values.length * size);
  const random = createRandom(0);
  for (const [index, value] of values.entries()) {
    const x = rows.subarray(index * size, (index + 1) * size);
    const solve = factorizeShifted(diagonal, beside, value + besideValue);
    // A start that lies in the plane of those before it would not leave it: any numbers at random do not.
    for (let i = 0; i < size; i++) x[i] = random.next() / 2 ** 32 - 0.5;
    for (let round = 0; round < rounds; round++) {
      solve(x);
      normalize(x);
      takeOff(rows, index, x);
      normalize(x);
    }
    // Once leaves too much of rows that are nearly parallel.
    takeOff(rows, index, x);
    normalize(x);
  }
  return rows;
}

/**
 * Factorizes T − value·I with exchange of rows, as elimination does; a pivot that vanishes becomes a very small one, for at an
 * eigenvalue one of them does.
 *
 * @returns what solves (T − value·I) y = x in the place of x
 */
function factorizeShifted(diagonal: Float64Array, beside: Float64Array, value: number): (x: Float64Array) => void {
  const size = diagonal.length;
  // Three diagonals of the upper factor; the factor that was taken off each row below; whether the rows were exchanged.
  const [first, second, third] = [diagonal.map((own) => own - value), beside.slice(), new Float64Array(size)];
  const factors = new Float64Array(size);
  const isExchanged = new Uint8Array(size);
  for (let i = 0; i < size - 1; i++) {
    const below = beside[i];
    if (Math.abs(below) > Math.max(Math.abs(first[i]), Number.EPSILON)) {
      isExchanged[i] = 1;
      factors[i] = first[i] / below;
      const [upper, next, nextBeside] = [second[i], first[i + 1], second[i + 1]];
      [first[i], second[i], third[i]] = [below, next, nextBeside];
      first[i + 1] = upper - factors[i] * next;
      second[i + 1] = -factors[i] * nextBeside;
    } else {
      if (Math.abs(first[i]) < Number.EPSILON) first[i] = Number.EPSILON;
      factors[i] = below / first[i];
      first[i + 1] -= factors[i] * second[i];
    }
  }
  if (Math.abs(first[size - 1]) < Number.EPSILON) first[size - 1] = Number.EPSILON;
  return (x) => {
    for (let i = 0; i < size - 1; i++) {
      const [own, next] = isExchanged[i] === 1 ? [x[i + 1], x[i]] : [x[i], x[i + 1]];
      x[i] = own;
      x[i + 1] = next - factors[i] * own;
    }
    for (let i = size - 1; i >= 0; i--) {
      const known = (i + 1 < size ? second[i] * x[i + 1] : 0) + (i + 2 < size ? third[i] * x[i + 2] : 0);
      x[i] = (x[i] - known) / first[i];
    }
  };
}

/** Takes the part along the first rows off. */
function takeOff(rows: Float64Array, count: number, x: Float64Array): void {
  const size = x.length;
  for (let row = 0; row < count * size; row += size) {
    const along = dotProduct(rows, row, x, 0, size);
    for (let i = 0; i < size; i++) x[i] -= along * rows[row + i];
  }
}

function normalize(x: Float64Array): void {
  // Elements of solutions at an eigenvalue can be so large that their squares are none.
  const largest = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  let square = 0;
  for (let i = 0; i < x.length; i++) {
    x[i] /= largest;
    square += x[i] ** 2;
  }
  const length = Math.sqrt(square);
  for (let i = 0; i < x.length; i++) x[i] /= length;
}
