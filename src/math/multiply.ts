/** Rows of the right matrix that are multiplied before the next ones are looked at: they stay in the processor's cache. */
const blockRows = 48;

/** The product of two matrices. `[rows, inner]` · `[inner, columns]` */
export function multiply(
  left: Float64Array,
  right: Float64Array,
  rows: number,
  inner: number,
  columns: number,
): Float64Array<ArrayBuffer> {
  const product = new Float64Array(rows * columns);
  for (let start = 0; start < inner; start += blockRows) {
    const end = Math.min(start + blockRows, inner);
    for (let i = 0; i + 2 <= rows; i += 2) addProducts(product, left, right, [i, i + 1], [start, end], inner, columns);
    if (rows % 2 === 1) addProducts(product, left, right, [rows - 1, rows - 1], [start, end], inner, columns);
  }
  return product;
}

/** Adds what rows `start` to `end` of the right matrix give to two rows of the product, or to one: four of them at a time. */
function addProducts(
  product: Float64Array,
  left: Float64Array,
  right: Float64Array,
  [one, other]: readonly [number, number],
  [start, end]: readonly [number, number],
  inner: number,
  columns: number,
): void {
  const [upper, lower] = [one * columns, other * columns];
  let k = start;
  for (; k + 4 <= end && one !== other; k += 4) {
    const [a, b] = [one * inner + k, other * inner + k];
    const [a0, a1, a2, a3] = [left[a], left[a + 1], left[a + 2], left[a + 3]];
    const [b0, b1, b2, b3] = [left[b], left[b + 1], left[b + 2], left[b + 3]];
    const [row0, row1, row2, row3] = [k * columns, (k + 1) * columns, (k + 2) * columns, (k + 3) * columns];
    for (let j = 0; j < columns; j++) {
      const x0 = right[row0 + j];
      const x1 = right[row1 + j];
      const x2 = right[row2 + j];
      const x3 = right[row3 + j];
      product[upper + j] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3;
      product[lower + j] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3;
    }
  }
  for (; k < end; k++) {
    for (const row of one === other ? [one] : [one, other]) {
      const factor = left[row * inner + k];
      for (let j = 0; j < columns; j++) product[row * columns + j] += factor * right[k * columns + j];
    }
  }
}

/**
 * The products of rows of a matrix with rows `start` to `end` of another, over their first `length` columns.
 *
 * @param left `[leftRows, columns]`
 * @param right `[rightRows, columns]`
 * @returns `[leftRows, end - start]`
 */
export function rowProducts(
  left: Float64Array,
  leftRows: number,
  right: Float64Array,
  [start, end]: readonly [number, number],
  columns: number,
  length = columns,
): Float64Array {
  const width = end - start;
  const products = new Float64Array(leftRows * width);
  // Eight sums fit into registers; what is left over at the edges is computed twice.
  for (let row = 0; row < leftRows; row += 4) {
    const [r0, r1, r2, r3] = [row, row + 1, row + 2, row + 3].map((r) => Math.min(r, leftRows - 1));
    const [d0, d1, d2, d3] = [r0 * columns, r1 * columns, r2 * columns, r3 * columns];
    for (let j = start; j < end; j += 2) {
      const next = Math.min(j + 1, end - 1);
      const [m0, m1] = [j * columns, next * columns];
      let s00 = 0;
      let s01 = 0;
      let s10 = 0;
      let s11 = 0;
      let s20 = 0;
      let s21 = 0;
      let s30 = 0;
      let s31 = 0;
      for (let i = 0; i < length; i++) {
        const x = right[m0 + i];
        const y = right[m1 + i];
        const a = left[d0 + i];
        const b = left[d1 + i];
        const c = left[d2 + i];
        const d = left[d3 + i];
        s00 += a * x;
        s01 += a * y;
        s10 += b * x;
        s11 += b * y;
        s20 += c * x;
        s21 += c * y;
        s30 += d * x;
        s31 += d * y;
      }
      const [p, q] = [j - start, next - start];
      products[r0 * width + p] = s00;
      products[r0 * width + q] = s01;
      products[r1 * width + p] = s10;
      products[r1 * width + q] = s11;
      products[r2 * width + p] = s20;
      products[r2 * width + q] = s21;
      products[r3 * width + p] = s30;
      products[r3 * width + q] = s31;
    }
  }
  return products;
}

/** The product of two rows of numbers, from one place on in each. Four sums at a time: one alone would wait for itself. */
export function dotProduct(
  left: Float64Array,
  leftStart: number,
  right: Float64Array,
  rightStart: number,
  length: number,
): number {
  let [sum0, sum1, sum2, sum3] = [0, 0, 0, 0];
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    sum0 += left[leftStart + i] * right[rightStart + i];
    sum1 += left[leftStart + i + 1] * right[rightStart + i + 1];
    sum2 += left[leftStart + i + 2] * right[rightStart + i + 2];
    sum3 += left[leftStart + i + 3] * right[rightStart + i + 3];
  }
  for (; i < length; i++) sum0 += left[leftStart + i] * right[rightStart + i];
  return sum0 + sum1 + sum2 + sum3;
}
