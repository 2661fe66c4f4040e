import { factorize, solveFactored } from "../math/factor.js";
import { rowProducts } from "../math/multiply.js";
import { clamp, roundHalfEven } from "../math/round.js";
import { type CodeLimits, gridIndexOf, type WeightGrid, type WeightGrids } from "./weight-grid.js";

/** In which order GPTQ rounds the columns, and against what. */
export interface GptqOptions {
  /** `activation`: columns whose input is largest first. `natural`: from the first to the last. */
  readonly order: "activation" | "natural";
  /** Added to the diagonal of the Gram matrix, as a share of its mean. */
  readonly damping: number;
}

/** A Gram matrix as GPTQ needs it. */
export interface FactoredGram {
  readonly size: number;
  /** The column that is rounded at each place. `[size]` */
  readonly order: Int32Array;
  /** M with MᵀM the Gram matrix and what was added to it, rows and columns in the order of rounding. `[size, size]` */
  readonly factor: Float64Array;
  /** What was added to the diagonal, in the order of rounding. `[size]` */
  readonly added: Float64Array;
}

/** Where the grids of a weight come from. */
export type Gridding =
  | { readonly kind: "static"; readonly grids: WeightGrids }
  /** Each group gets its grid when its turn comes, from what the columns before it left of its values. */
  | {
      readonly kind: "dynamic";
      readonly groupSize: number;
      choose(row: number, values: Float32Array): WeightGrid;
    };

export interface RoundedRows {
  /** `[rows, columns]`, in the order of the columns. */
  readonly codes: Int8Array;
  /** With dynamic groups these are runs in the order of rounding. */
  readonly grids: WeightGrids;
  /** Of each row: the squared error of its output, summed over what the Gram matrix was taken of. `[rows]` */
  readonly errors: Float64Array;
}

/**
 * Prepares a Gram matrix XᵀX of a layer's input. A column that was zero on all samples gets a diagonal of its own, which
 * leaves the others alone; where the matrix is too close to a singular one, the damping is raised tenfold until it is not.
 *
 * @param gram `[size, size]`, left unchanged
 * @see Frantar et al., GPTQ, arXiv:2210.17323, section 3.3
 */
export function factorGram(gram: Float64Array, size: number, options: GptqOptions): FactoredGram {
  const diagonal = Float64Array.from({ length: size }, (_, i) => gram[i * size + i]);
  const order = Int32Array.from({ length: size }, (_, i) => i);
  if (options.order === "activation") order.sort((a, b) => diagonal[b] - diagonal[a] || a - b);
  const live = diagonal.filter((value) => value > 0);
  const mean = live.length === 0 ? 1 : live.reduce((sum, value) => sum + value, 0) / live.length;
  let damping = options.damping * mean;
  while (damping < Number.POSITIVE_INFINITY) {
    const factor = new Float64Array(size * size);
    const added = new Float64Array(size);
    for (let i = 0; i < size; i++) {
      const row = order[i] * size;
      for (let j = 0; j <= i; j++) factor[i * size + j] = gram[row + order[j]];
      added[i] = diagonal[order[i]] > 0 ? damping : mean + damping;
      factor[i * size + i] += added[i];
    }
    if (factorize(factor, size)) return { size, order, factor, added };
    damping = Math.max(damping * 10, mean * Number.EPSILON);
  }
  throw new Error("the Gram matrix is not finite");
}

/**
 * Moves rows towards another target: adds the least-squares solution of X Δ = E, ridged by the damping.
 *
 * @param rows `[rowCount, size]`
 * @param cross EᵀX: what shall be added to the output of each row, times the input. `[rowCount, size]`
 * @returns the moved rows
 */
export function moveRows(
  { size, order, factor }: FactoredGram,
  rows: Float32Array,
  rowCount: number,
  cross: Float64Array,
): Float32Array {
  const change = permute(cross, rowCount, order);
  solveFactored(factor, size, change, rowCount);
  const moved = Float32Array.from(rows);
  for (let row = 0; row < rowCount; row++) {
    for (let i = 0; i < size; i++) moved[row * size + order[i]] += change[row * size + i];
  }
  return moved;
}

/** Columns that are rounded before what they left to the later ones is summed up anew. */
const blockColumns = 64;

/**
 * Rounds column by column; each column makes up for what rounding the earlier ones did to the output.
 *
 * With d the difference between the wanted and the rounded row, the error of the output is the square of M d. Row j of M
 * reaches the columns up to j only: the best value of column j is the one that brings (M d)ⱼ to zero, given the columns
 * before it. This is what updating all later columns after each one amounts to, without an inverse.
 *
 * @param rows `[rowCount, size]`
 * @param limits the smallest and the largest code
 * @see Frantar et al., GPTQ, arXiv:2210.17323, section 3
 */
export function roundAgainstGram(
  gram: FactoredGram,
  rows: Float32Array,
  rowCount: number,
  gridding: Gridding,
  limits: CodeLimits,
): RoundedRows {
  const { size, order, factor } = gram;
  const wanted = permute(rows, rowCount, order);
  const differences = new Float64Array(rowCount * size);
  const codes = new Int8Array(rowCount * size);
  const errors = new Float64Array(rowCount);
  const grids = gridding.kind === "static" ? gridding.grids : emptyGrids(rowCount, size, gridding.groupSize);
  const indexOf = gridIndexOf(grids, rowCount);
  // A dynamic group is chosen from values that all columns before it have been taken off.
  const step = gridding.kind === "static" ? blockColumns : gridding.groupSize;
  for (let start = 0; start < size; start += step) {
    const end = Math.min(start + step, size);
    const products = rowProducts(differences, rowCount, factor, [start, end], size, start);
    for (let row = 0; row < rowCount; row++) {
      const base = row * size;
      const own = products.subarray(row * (end - start), (row + 1) * (end - start));
      if (gridding.kind === "dynamic") {
        const left = leftOf(gram, wanted, base, own, start, end);
        const grid = gridding.choose(row, left);
        grids.scales[indexOf(row, start)] = grid.scale;
        grids.zeroPoints[indexOf(row, start)] = grid.zeroPoint;
      }
      for (let j = start; j < end; j++) {
        let sum = own[j - start];
        for (let i = start; i < j; i++) sum += factor[j * size + i] * differences[base + i];
        const pivot = factor[j * size + j];
        const grid = indexOf(row, gridding.kind === "static" ? order[j] : j);
        const [scale, zeroPoint] = [grids.scales[grid], grids.zeroPoints[grid]];
        const nearest = roundHalfEven((wanted[base + j] + sum / pivot) / scale) + zeroPoint;
        const code = clamp(nearest, limits.low, limits.high);
        const difference = wanted[base + j] - (code - zeroPoint) * scale;
        codes[base + order[j]] = code;
        differences[base + j] = difference;
        errors[row] += (sum + pivot * difference) ** 2 - gram.added[j] * difference ** 2;
      }
    }
  }
  return { codes, grids, errors };
}

/**
 * The squared error of the output of each row that some other values in its place bring, summed over what the Gram matrix
 * was taken of.
 *
 * @param rows `[rowCount, size]`
 * @param others `[rowCount, size]`
 */
export function outputErrors(
  { size, order, factor, added }: FactoredGram,
  rows: Float32Array,
  others: Float32Array,
  rowCount: number,
): Float64Array {
  const differences = permute(
    rows.map((value, i) => value - others[i]),
    rowCount,
    order,
  );
  const errors = new Float64Array(rowCount);
  for (let start = 0; start < size; start += blockColumns) {
    const end = Math.min(start + blockColumns, size);
    const products = rowProducts(differences, rowCount, factor, [start, end], size, start);
    for (let row = 0; row < rowCount; row++) {
      const base = row * size;
      for (let j = start; j < end; j++) {
        let sum = products[row * (end - start) + j - start];
        for (let i = start; i <= j; i++) sum += factor[j * size + i] * differences[base + i];
        errors[row] += sum ** 2 - added[j] * differences[base + j] ** 2;
      }
    }
  }
  return errors;
}

/** What the columns before a group left of its values: the best ones if they did not have to be rounded. */
function leftOf(
  { size, factor }: FactoredGram,
  wanted: Float64Array,
  base: number,
  products: Float64Array,
  start: number,
  end: number,
): Float32Array {
  const differences = new Float64Array(end - start);
  for (let j = start; j < end; j++) {
    let sum = products[j - start];
    for (let i = start; i < j; i++) sum += factor[j * size + i] * differences[i - start];
    differences[j - start] = -sum / factor[j * size + j];
  }
  return Float32Array.from(differences, (difference, i) => wanted[base + start + i] - difference);
}

/** Rows with their columns in the order of rounding. */
function permute(rows: Float32Array | Float64Array, rowCount: number, order: Int32Array): Float64Array {
  const size = order.length;
  const permuted = new Float64Array(rowCount * size);
  for (let row = 0; row < rowCount; row++) {
    for (let i = 0; i < size; i++) permuted[row * size + i] = rows[row * size + order[i]];
  }
  return permuted;
}

function emptyGrids(rowCount: number, size: number, groupSize: number): WeightGrids {
  const groups = rowCount * Math.ceil(size / groupSize);
  return { scales: new Float32Array(groups), zeroPoints: new Int8Array(groups), groupSize };
}
