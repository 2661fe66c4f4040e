import type { Matrix } from "../calibrate/block-trial.js";
import type { NodeWriter } from "../calibrate/curve.js";
import type { ValueName } from "../graph/graph.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { float32Tensor, float32Values, floatTensor, int8Tensor } from "../tensor/tensor.js";

/** How the matrices of corrections are stored. */
export type Storage = "int8" | "float16" | "float32";

/** A matrix in the form in which a model holds it, and what the runtime makes of it. */
export interface StoredMatrix extends Matrix {
  readonly storage: Storage;
  /** With int8: of each row. `[rows]` */
  readonly scales: Float32Array;
}

const largestCode = 127;

/** With int8 each output has its own scale, symmetric about zero. */
export function storeMatrix(values: ArrayLike<number>, rows: number, columns: number, storage: Storage): StoredMatrix {
  const exact = Float32Array.from(values);
  const scales = new Float32Array(storage === "int8" ? rows : 0);
  if (storage === "float32") return { rows, columns, values: exact, storage, scales };
  if (storage === "float16") {
    const rounded = float32Values(floatTensor("float16", [rows, columns], exact));
    return { rows, columns, values: Float32Array.from(rounded), storage, scales };
  }
  const rounded = new Float32Array(exact.length);
  for (let row = 0; row < rows; row++) {
    const own = exact.subarray(row * columns, (row + 1) * columns);
    const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    // A row of zeros has any scale; one of denormal numbers would have none.
    const scale = Math.fround(Math.max(largest / largestCode, 1e-30));
    scales[row] = scale;
    for (let i = 0; i < columns; i++) {
      rounded[row * columns + i] = scale * clamp(roundHalfEven(own[i] / scale), -largestCode, largestCode);
    }
  }
  return { rows, columns, values: rounded, storage, scales };
}

/** What a matrix takes in a file, its scales included. */
export function bytesOfMatrix(rows: number, columns: number, storage: Storage): number {
  const size = { int8: 1, float16: 2, float32: 4 }[storage];
  return rows * columns * size + (storage === "int8" ? 4 * rows : 0);
}

/**
 * Writes a matrix as a float32 value.
 *
 * @param shape of the value
 * @param axis along which the rows lie in it: the first, or the last one, where the matrix is turned
 */
export function writeMatrix(
  writer: NodeWriter,
  { rows, columns, values, storage, scales }: StoredMatrix,
  shape: readonly number[],
  axis: 0 | 1,
): ValueName {
  const placed = axis === 0 ? values : turn(values, rows, columns);
  if (storage === "float32") return writer.constant(float32Tensor(shape, placed));
  if (storage === "float16") {
    return writer.node("Cast", [writer.constant(floatTensor("float16", shape, placed))], { to: 1 });
  }
  const codes = values.map((value, i) => roundHalfEven(value / scales[Math.floor(i / columns)]));
  const own = axis === 0 ? codes : turn(codes, rows, columns);
  const inputs = [int8Tensor(shape, own), float32Tensor([rows], scales), int8Tensor([rows], new Int8Array(rows))];
  return writer.node(
    "DequantizeLinear",
    inputs.map((tensor) => writer.constant(tensor)),
    { axis },
  );
}

function turn(values: Float32Array, rows: number, columns: number): Float32Array {
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]);
}
