import { viewAxis } from "./shape.js";

/**
 * The values of a tensor as a matrix with a row per index of one axis: `[size, everything else in storage order]`.
 * Output channels become rows whatever the operator's layout; a convolution's columns come channel first, then taps.
 */
export function toRows(values: Float32Array, shape: readonly number[], axis: number): Float32Array {
  const rows = new Float32Array(values.length);
  const { outerSize, size, innerSize } = viewAxis(shape, axis);
  moveRuns(values, rows, outerSize, size, innerSize);
  return rows;
}

/** The opposite of `toRows`, for codes. */
export function fromRows(rows: Int8Array, shape: readonly number[], axis: number): Int8Array {
  const values = new Int8Array(rows.length);
  const { outerSize, size, innerSize } = viewAxis(shape, axis);
  moveRuns(rows, values, size, outerSize, innerSize);
  return values;
}

/** `[first, second, runLength]` to `[second, first, runLength]`. */
function moveRuns<Values extends Float32Array | Int8Array>(
  from: Values,
  to: Values,
  first: number,
  second: number,
  runLength: number,
): void {
  if (first === 1 || second === 1) {
    to.set(from);
    return;
  }
  if (runLength === 1) {
    transpose(from, to, first, second);
    return;
  }
  for (let start = 0; start < first; start += strip) {
    const end = Math.min(start + strip, first);
    for (let b = 0; b < second; b++) {
      for (let a = start; a < end; a++) {
        const source = (a * second + b) * runLength;
        const target = (b * first + a) * runLength;
        for (let i = 0; i < runLength; i++) to[target + i] = from[source + i];
      }
    }
  }
}

/** `[first, second]` to `[second, first]`, in squares that stay near. */
function transpose<Values extends Float32Array | Int8Array>(
  from: Values,
  to: Values,
  first: number,
  second: number,
): void {
  for (let top = 0; top < first; top += strip) {
    const bottom = Math.min(top + strip, first);
    for (let left = 0; left < second; left += strip) {
      const right = Math.min(left + strip, second);
      for (let b = left; b < right; b++) {
        let source = top * second + b;
        for (let target = b * first + top; target < b * first + bottom; target++) {
          to[target] = from[source];
          source += second;
        }
      }
    }
  }
}

/** So many runs of one row after the other are read in turn: what is written lies together, and what is read stays near. */
const strip = 32;
