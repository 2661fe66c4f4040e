/** Number of elements of a shape; 1 for a scalar (`[]`). */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function isSameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** A negative axis counts from the end, as in ONNX. */
export function resolveAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/**
 * A tensor seen around one axis: element `(outer, i, inner)` stands at `(outer * size + i) * innerSize + inner`.
 * Everything per channel walks in this form.
 */
export interface AxisView {
  readonly outerSize: number;
  readonly size: number;
  readonly innerSize: number;
}

export function viewAxis(shape: readonly number[], axis: number): AxisView {
  return {
    outerSize: elementCount(shape.slice(0, axis)),
    size: shape[axis],
    innerSize: elementCount(shape.slice(axis + 1)),
  };
}
