import { leadingDirections } from "./eigen.js";
import { factorize, solveFactored } from "./factor.js";
import { dotProduct, multiply, rowProducts } from "./multiply.js";

/** Weighted sums over pairs of rows: x of K numbers, and e of O. */
export interface PairSums {
  /** Sum of the weights. */
  readonly weight: number;
  /** `[K]` */
  readonly x: Float64Array;
  /** `[O]` */
  readonly e: Float64Array;
  /** XᵀX, not centred. `[K, K]` */
  readonly xx: Float64Array;
  /** EᵀX, not centred. `[O, K]` */
  readonly ex: Float64Array;
  /** Squares of each column of E. `[O]` */
  readonly ee: Float64Array;
}

/** e ≈ W x + b. */
export interface LinearFit {
  /** W, a row for each of the O outputs. `[O, K]` */
  readonly slope: Float64Array;
  /** b `[O]` */
  readonly offset: Float64Array;
  /** The ridge as a share of the mean variance of x; raised where the given one left the system singular. */
  readonly lambda: number;
}

/** A linear fit of few degrees of freedom: W = left · right. */
export interface LowRankFit {
  /** `[O, rank]` */
  readonly left: Float64Array;
  /** `[rank, K]` */
  readonly right: Float64Array;
  readonly offset: Float64Array;
}

/** What is left of the variance of x where x does not vary: rounding of float32 sums. */
const noVariance = 1e-10;

/** Rows of a symmetric product that are computed at once. */
const bandRows = 48;

/**
 * Least squares with a ridge on the slope, from finished sums: W = (G + λ·mean(diag G)·I)⁻¹ C with the centred
 * G = XᵀX and C = XᵀE, b what the means ask for. Where x does not vary, W is zero.
 *
 * @param lambda the ridge as a share of the mean of G's diagonal; raised tenfold until the system can be solved
 * @see QwT, arXiv:2411.13918, section 3, which takes it without centring and without a ridge
 */
export function fitLinear(sums: PairSums, lambda: number): LinearFit {
  const { gram, cross } = centre(sums);
  const [columns, outputs] = [sums.x.length, sums.e.length];
  let [variance, size] = [0, 0];
  for (let i = 0; i < columns; i++) {
    variance += gram[i * columns + i];
    size += sums.xx[i * columns + i];
  }
  const varies = variance > noVariance * size;
  const solved = varies ? solveRidge(gram, cross, columns, outputs, lambda, variance / columns) : undefined;
  const slope = solved?.slope ?? new Float64Array(outputs * columns);
  const explained = multiply(slope, sums.x, outputs, columns, 1);
  return { slope, offset: offsetOf(sums, explained), lambda: solved?.lambda ?? lambda };
}

function solveRidge(
  gram: Float64Array,
  cross: Float64Array,
  columns: number,
  outputs: number,
  first: number,
  meanVariance: number,
): { readonly slope: Float64Array; readonly lambda: number } {
  for (let lambda = first; Number.isFinite(lambda); lambda = Math.max(lambda * 10, 1e-12)) {
    const factor = gram.slice();
    for (let i = 0; i < columns; i++) factor[i * columns + i] += lambda * meanVariance;
    if (!factorize(factor, columns)) continue;
    const slope = cross.slice();
    solveFactored(factor, columns, slope, outputs);
    return { slope, lambda };
  }
  throw new Error("the sums of a regression are not finite");
}

/** Products of deviations from the means. */
interface Centred {
  /** `[K, K]` */
  readonly gram: Float64Array;
  /** `[O, K]` */
  readonly cross: Float64Array;
}

function centre({ weight, x, e, xx, ex }: PairSums): Centred {
  return { gram: withoutMeans(xx, x, x, weight), cross: withoutMeans(ex, e, x, weight) };
}

function withoutMeans(products: Float64Array, left: Float64Array, right: Float64Array, weight: number): Float64Array {
  const columns = right.length;
  const result = products.slice();
  for (let i = 0; i < left.length; i++) {
    const mean = left[i] / weight;
    for (let j = 0; j < columns; j++) result[i * columns + j] -= mean * right[j];
  }
  return result;
}

/** What the means ask for beside what a slope makes of x. */
function offsetOf({ weight, e }: PairSums, explained: Float64Array): Float64Array {
  return e.map((sum, o) => (sum - explained[o]) / weight);
}

/**
 * The best fits of some ranks in the metric that the ridge fit itself minimises: for M with MᵀM = G + λI their outputs are
 * spanned by the first right singular vectors of M Wᵀ, which are the eigenvectors of W C. One decomposition serves them all.
 *
 * @param fit of full rank, from the same sums
 * @returns a fit for each rank
 * @see docs/methods/qwt.md: a singular value decomposition of W itself would be optimal for white inputs only
 */
export function reduceRanks(sums: PairSums, fit: LinearFit, ranks: readonly number[]): readonly LowRankFit[] {
  const [columns, outputs] = [sums.x.length, sums.e.length];
  const most = Math.max(...ranks, 0);
  const directions = leadingDirections(explainedProducts(sums, fit), outputs, most);
  const right = multiply(directions, fit.slope, most, outputs, columns);
  return ranks.map((rank) => {
    const left = new Float64Array(outputs * rank);
    for (let r = 0; r < rank; r++) {
      for (let o = 0; o < outputs; o++) left[o * rank + r] = directions[r * outputs + o];
    }
    const own = right.slice(0, rank * columns);
    const explained = multiply(left, multiply(own, sums.x, rank, columns, 1), outputs, rank, 1);
    return { left, right: own, offset: offsetOf(sums, explained) };
  });
}

/**
 * What a fit takes away from the squares of e about its mean, on rows that it was not fitted on, from their sums alone.
 *
 * @param other sums over the other rows
 */
export function gainElsewhere({ slope }: Pick<LinearFit, "slope">, other: PairSums): number {
  return gainsOf(slope, centre(other), other.x.length).reduce((sum, gain) => sum + gain, 0);
}

/**
 * The same of the best fits of rank one, two and so on: what each direction adds.
 *
 * @param fit of full rank, from `sums`
 * @param other sums over the other rows
 * @param most how many directions to look at
 */
export function directionGainsElsewhere(sums: PairSums, fit: LinearFit, other: PairSums, most: number): Float64Array {
  if (most === 0) return new Float64Array();
  const [columns, outputs] = [sums.x.length, sums.e.length];
  const { gram, cross } = centre(other);
  const directions = leadingDirections(explainedProducts(sums, fit), outputs, most);
  const along = (matrix: Float64Array) => multiply(directions, matrix, most, outputs, columns);
  return gainsOf(along(fit.slope), { gram, cross: along(cross) }, columns);
}

/** What each row of a slope, `[rows, K]`, takes away. */
function gainsOf(slope: Float64Array, { gram, cross }: Centred, columns: number): Float64Array {
  const rows = slope.length / columns;
  const products = multiply(slope, gram, rows, columns, columns);
  return Float64Array.from({ length: rows }, (_, row) => {
    const at = row * columns;
    return 2 * dotProduct(slope, at, cross, at, columns) - dotProduct(products, at, slope, at, columns);
  });
}

/** W C, which is symmetric. `[O, O]` */
function explainedProducts({ weight, x, e, ex }: PairSums, { slope }: LinearFit): Float64Array {
  const cross = withoutMeans(ex, e, x, weight);
  const [columns, outputs] = [x.length, e.length];
  const products = new Float64Array(outputs * outputs);
  // What lies behind a band is what lies below it.
  for (let start = 0; start < outputs; start += bandRows) {
    const end = Math.min(start + bandRows, outputs);
    const band = rowProducts(cross, end, slope, [start, end], columns);
    for (let j = 0; j < end; j++) {
      for (let i = Math.max(start, j); i < end; i++) {
        products[i * outputs + j] = products[j * outputs + i] = band[j * (end - start) + i - start];
      }
    }
  }
  return products;
}

/** Sums over the rows of both. */
export function addSums(one: PairSums, other: PairSums): PairSums {
  const add = (key: "x" | "e" | "xx" | "ex" | "ee") => one[key].map((value, i) => value + other[key][i]);
  return {
    weight: one.weight + other.weight,
    x: add("x"),
    e: add("e"),
    xx: add("xx"),
    ex: add("ex"),
    ee: add("ee"),
  };
}
