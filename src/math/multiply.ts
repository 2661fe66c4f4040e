/** The product of two matrices. `[rows, inner]` · `[inner, columns]` */
export function multiply(
  left: ArrayLike<number>,
  right: ArrayLike<number>,
  rows: number,
  inner: number,
  columns: number,
): Float64Array {
  const product = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < inner; k++) {
      const factor = left[i * inner + k];
      if (factor === 0) continue;
      for (let j = 0; j < columns; j++) product[i * columns + j] += factor * right[k * columns + j];
    }
  }
  return product;
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
