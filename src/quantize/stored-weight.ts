import type { ValueName } from "../graph/graph.js";
import { fromRows } from "../tensor/rows.js";
import { elementCount } from "../tensor/shape.js";
import type { Storage, WeightFormat } from "./format.js";
import type { QuantizedRows } from "./weight.js";
import { forEachGrid } from "./weight-grid.js";

/** A quantized weight and how its codes are to stand in the file. */
export interface StoredWeight {
  /** The initializer that was quantized. */
  readonly weight: ValueName;
  readonly shape: readonly number[];
  readonly channelAxis: number;
  readonly format: WeightFormat;
  readonly storage: Storage;
  readonly rows: QuantizedRows;
}

/** Groups have an axis of their own in the codes, so that scales broadcast: `[rows, groups, groupSize]`. */
export function codesShape(stored: StoredWeight): readonly number[] {
  if (!isGrouped(stored)) return stored.shape;
  const rowCount = stored.shape[stored.channelAxis];
  const columns = elementCount(stored.shape) / rowCount;
  return [rowCount, Math.ceil(columns / stored.rows.groupSize), stored.rows.groupSize];
}

/** The shape in which scales and zero points broadcast over the codes. */
export function scaleShape(stored: StoredWeight): readonly number[] {
  if (stored.rows.scales.length === 1) return [];
  if (!isGrouped(stored)) return stored.shape.map((size, axis) => (axis === stored.channelAxis ? size : 1));
  const [rowCount, groups] = codesShape(stored);
  return [rowCount, groups, 1];
}

export function isGrouped(stored: StoredWeight): boolean {
  return stored.format.granularity.kind === "per-group";
}

/** Whether no grid has a zero point but zero. */
export function isOnZero({ rows }: StoredWeight): boolean {
  return rows.zeroPoints.every((zeroPoint) => zeroPoint === 0);
}

/** Signed codes in the shape `codesShape`; the last group of a row is filled up with zeros. */
export function orderedCodes(stored: StoredWeight): Int8Array {
  return inStorageOrder(stored, stored.rows.codes);
}

/**
 * Codes less their zero points. Below 8 bits they fit into int8, and integer kernels, which take no zero point per
 * channel, need none.
 */
export function centredCodes(stored: StoredWeight): Int8Array {
  const { codes } = stored.rows;
  if (isOnZero(stored)) return inStorageOrder(stored, codes);
  const centred = new Int8Array(codes.length);
  forEachGrid(stored.rows, stored.shape[stored.channelAxis], codes.length, (start, end, _scale, zeroPoint) => {
    for (let i = start; i < end; i++) centred[i] = codes[i] - zeroPoint;
  });
  return inStorageOrder(stored, centred);
}

function inStorageOrder(stored: StoredWeight, rows: Int8Array): Int8Array {
  if (!isGrouped(stored)) return fromRows(rows, stored.shape, stored.channelAxis);
  const [rowCount, groups, groupSize] = codesShape(stored);
  const columns = rows.length / rowCount;
  if (columns === groups * groupSize) return rows;
  const padded = new Int8Array(rowCount * groups * groupSize);
  for (let row = 0; row < rowCount; row++) {
    padded.set(rows.subarray(row * columns, (row + 1) * columns), row * groups * groupSize);
  }
  return padded;
}
