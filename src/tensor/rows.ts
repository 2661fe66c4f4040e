import { viewAxis } from "./shape.js";

/**
 * The values of a tensor as a matrix with a row per index of one axis: `[size, everything else in storage order]`.
 * Output channels become rows whatever the operator's layout; a convolution's columns come channel first, then taps.
 */
export function toRows(values: Float32Array, shape: readonly number[], axis: number): Float32Array {
  const rows = new Float32Array(values.length);
  forEachInRows(shape, axis, (stored, row) => {
    rows[row] = values[stored];
  });
  return rows;
}

/** The opposite of `toRows`, for codes. */
export function fromRows(rows: Int8Array, shape: readonly number[], axis: number): Int8Array {
  const values = new Int8Array(rows.length);
  forEachInRows(shape, axis, (stored, row) => {
    values[stored] = rows[row];
  });
  return values;
}

/** Calls with the index in storage order and the index in row order of every element. */
function forEachInRows(shape: readonly number[], axis: number, visit: (stored: number, row: number) => void): void {
  const { outerSize, size, innerSize } = viewAxis(shape, axis);
  const columns = outerSize * innerSize;
  for (let outer = 0, stored = 0; outer < outerSize; outer++) {
    for (let row = 0; row < size; row++) {
      const start = row * columns + outer * innerSize;
      for (let inner = 0; inner < innerSize; inner++, stored++) visit(stored, start + inner);
    }
  }
}
