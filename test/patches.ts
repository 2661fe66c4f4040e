import { elementCount } from "../src/tensor/shape.js";
import { float64Values, type Tensor } from "../src/tensor/tensor.js";

/** How a convolution with the same steps along all axes reads its input; no kernel is a product with vectors. */
export interface PatchForm {
  readonly kernel: readonly number[];
  readonly stride: number;
  /** Zeros on every side, or before each axis and then behind each. */
  readonly pad: number | readonly number[];
  readonly groups: number;
  readonly dilation?: number;
}

/** XᵀX of what a layer reads, one matrix per group, slowly: every output position is a row, zeros of the padding included. */
export function gramOfPatches(input: Tensor, form: PatchForm): readonly Float64Array[] {
  return patchesOf(input, form).map((rows) => {
    const size = rows[0]?.length ?? 0;
    const gram = new Float64Array(size * size);
    for (const row of rows) {
      for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) gram[i * size + j] += row[i] * row[j];
    }
    return gram;
  });
}

/** The rows of X, by group; columns channel by channel, then tap by tap. */
export function patchesOf(
  input: Tensor,
  { kernel, stride, pad, groups, dilation = 1 }: PatchForm,
): readonly (readonly (readonly number[])[])[] {
  const values = float64Values(input);
  if (kernel.length === 0) {
    const size = input.shape[input.shape.length - 1];
    const count = values.length / Math.max(size, 1);
    return [Array.from({ length: count }, (_, i) => [...values.slice(i * size, (i + 1) * size)])];
  }
  const [samples, channels, ...space] = input.shape;
  const reach = kernel.map((size) => (size - 1) * dilation + 1);
  const before = (axis: number) => (typeof pad === "number" ? pad : pad[axis]);
  const behind = (axis: number) => (typeof pad === "number" ? pad : pad[space.length + axis]);
  const places = space.map((size, axis) => Math.floor((size + before(axis) + behind(axis) - reach[axis]) / stride + 1));
  return Array.from({ length: groups }, (_, g) => {
    const rows: number[][] = [];
    for (let n = 0; n < samples; n++) {
      for (const place of indices(places)) {
        const row: number[] = [];
        for (let c = (g * channels) / groups; c < ((g + 1) * channels) / groups; c++) {
          for (const tap of indices(kernel)) {
            const at = place.map((p, axis) => p * stride + tap[axis] * dilation - before(axis));
            const isInside = at.every((p, axis) => p >= 0 && p < space[axis]);
            const offset = at.reduce((sum, p, axis) => sum * space[axis] + p, 0);
            row.push(isInside ? values[(n * channels + c) * elementCount(space) + offset] : 0);
          }
        }
        rows.push(row);
      }
    }
    return rows;
  });
}

function indices(shape: readonly number[]): readonly (readonly number[])[] {
  return shape.reduce<readonly (readonly number[])[]>(
    (lists, size) => lists.flatMap((list) => Array.from({ length: size }, (_, i) => [...list, i])),
    [[]],
  );
}
