import type { PrincipalComponents } from "../math/principal-components.js";

/** Rows of outputs of two networks: what one of them gave and what it should have given. */
export interface OutputRows {
  /** Classes: K. */
  readonly columns: number;
  /** `[N, K]` */
  readonly float: Float64Array;
  /** `[N, K]` */
  readonly current: Float64Array;
}

/** Which cluster each row belongs to: `[N]`, each below `count`. */
export interface RowClusters {
  readonly assignment: Int32Array;
  readonly count: number;
}

/** A line per cluster and class, `slope · z + offset`. */
export interface Lines {
  /** `[clusters, K]`; undefined where all are 1. */
  readonly slopes: Float64Array | undefined;
  /** `[clusters, K]` */
  readonly offsets: Float64Array;
}

/** Scores `z · weight + bias` of which the smallest is that of the nearest cluster. */
export interface ClusterScores {
  /** `[K, clusters]` */
  readonly weight: Float64Array;
  /** `[clusters]` */
  readonly bias: Float64Array;
}

/** What is done to a row of outputs: the lines of the cluster that it belongs to. Plain data. */
export interface ClusterMap extends Lines {
  /** Undefined where there is one cluster. */
  readonly scores: ClusterScores | undefined;
}

/** A slope that is fitted to outputs that hardly vary is made of rounding errors. */
const leastVariance = 1e-8;

/**
 * The line per cluster and class that brings the outputs closest to the float network's in the mean square, drawn towards
 * the line of all rows: with the moments over all rows (means m, variance v, slope γ) and the sums S over those of cluster j,
 *
 *     slope_j  = (Sxy_j + τ v γ) / (Sxx_j + τ v)
 *     offset_j = (n_j (mean_f,j - slope_j mean_q,j) + τ (m_f - slope_j m_q)) / (n_j + τ)
 *
 * @param form `bias` keeps all slopes at 1
 * @param tau the weight of the line of all rows, in rows: 0 is the paper's fit
 * @see Clustering-based affine transformation (CAT), arXiv:2509.26277; the shrinkage is our own
 */
export function fitLines(rows: OutputRows, clusters: RowClusters, form: "bias" | "affine", tau: number): Lines {
  const { columns } = rows;
  const one = { assignment: new Int32Array(clusters.assignment.length), count: 1 };
  const [all, each] = [momentsOf(rows, one), momentsOf(rows, clusters)];
  const slopes = new Float64Array(clusters.count * columns).fill(1);
  const offsets = new Float64Array(clusters.count * columns);
  const rowCount = all.sizes[0];
  for (let at = 0; at < slopes.length; at++) {
    const column = at % columns;
    const size = each.sizes[Math.floor(at / columns)];
    if (form === "affine") {
      const variance = all.squares[column] / rowCount;
      const slope = variance < leastVariance ? 1 : all.products[column] / all.squares[column];
      const squares = each.squares[at] + tau * variance;
      const isDetermined = squares >= leastVariance * (size + tau) && (size > 1 || tau > 0);
      if (isDetermined) slopes[at] = (each.products[at] + tau * variance * slope) / squares;
    }
    const own = each.float[at] - slopes[at] * each.current[at];
    const common = all.float[column] - slopes[at] * all.current[column];
    if (size + tau > 0) offsets[at] = (size * own + tau * common) / (size + tau);
  }
  return { slopes: form === "affine" ? slopes : undefined, offsets };
}

/**
 * The distances from centres as one product: `|(z - m) V - c|²` is `z · weight + bias` and something that is the same for
 * all centres.
 *
 * @param centers `[clusters, d]`, along the components
 */
export function scoresOf({ mean, count, directions }: PrincipalComponents, centers: Float64Array): ClusterScores {
  const columns = mean.length;
  const clusters = centers.length / count;
  const weight = new Float64Array(columns * clusters);
  const bias = new Float64Array(clusters);
  for (let j = 0; j < clusters; j++) {
    for (let d = 0; d < count; d++) bias[j] += centers[j * count + d] ** 2;
    for (let row = 0; row < columns; row++) {
      let along = 0;
      for (let d = 0; d < count; d++) along += directions[row * count + d] * centers[j * count + d];
      weight[row * clusters + j] = -2 * along;
      bias[j] += 2 * mean[row] * along;
    }
  }
  return centred({ weight, bias });
}

/**
 * The same scores less their mean, which is the same for all clusters: large outputs and centres close together then lose
 * less to rounding.
 */
function centred({ weight, bias }: ClusterScores): ClusterScores {
  const clusters = bias.length;
  const less = (values: Float64Array) => {
    const rows = values.length / clusters;
    const means = Array.from({ length: rows }, (_, row) => {
      let sum = 0;
      for (let j = 0; j < clusters; j++) sum += values[row * clusters + j];
      return sum / clusters;
    });
    return values.map((value, at) => value - means[Math.floor(at / clusters)]);
  };
  return { weight: less(weight), bias: less(bias) };
}

/**
 * The cluster of each row as the model computes it, in float32: the smallest score, the first one where several are
 * equally small.
 */
export function clustersByScores(values: Float64Array, columns: number, scores: ClusterScores): Int32Array {
  const clusters = scores.bias.length;
  const [weight, bias] = [Float32Array.from(scores.weight), Float32Array.from(scores.bias)];
  const sums = new Float32Array(clusters);
  return Int32Array.from({ length: values.length / columns }, (_, row) => {
    sums.fill(0);
    for (let column = 0; column < columns; column++) {
      const value = Math.fround(values[row * columns + column]);
      for (let j = 0; j < clusters; j++) sums[j] += Math.fround(value * weight[column * clusters + j]);
    }
    let best = 0;
    for (let j = 0; j < clusters; j++) {
      sums[j] += bias[j];
      if (sums[j] < sums[best]) best = j;
    }
    return best;
  });
}

/** A part of the way, `z + α (slope · z + offset - z)`, is a map of the same form. */
export function partOfLines({ slopes, offsets }: Lines, alpha: number): Lines {
  return {
    slopes: slopes?.map((slope) => 1 + alpha * (slope - 1)),
    offsets: offsets.map((offset) => alpha * offset),
  };
}

/**
 * Outputs with the lines of their clusters.
 *
 * @param values `[N, K]`
 * @param assignment `[N]`
 */
export function applyLines(values: Float64Array, assignment: Int32Array, { slopes, offsets }: Lines): Float64Array {
  const columns = values.length / Math.max(assignment.length, 1);
  return values.map((value, i) => {
    const at = assignment[Math.floor(i / columns)] * columns + (i % columns);
    return (slopes?.[at] ?? 1) * value + offsets[at];
  });
}

/** Means, and sums of squares and products around them, per cluster and class. */
interface Moments {
  /** `[clusters]` */
  readonly sizes: readonly number[];
  /** `[clusters, K]` each */
  readonly float: Float64Array;
  readonly current: Float64Array;
  readonly squares: Float64Array;
  readonly products: Float64Array;
}

function momentsOf({ columns, float, current }: OutputRows, { assignment, count }: RowClusters): Moments {
  const sizes = new Array<number>(count).fill(0);
  for (const cluster of assignment) sizes[cluster]++;
  const sumsOf = (term: (i: number, at: number) => number) => {
    const sums = new Float64Array(count * columns);
    for (let i = 0; i < float.length; i++) {
      const at = assignment[Math.floor(i / columns)] * columns + (i % columns);
      sums[at] += term(i, at);
    }
    return sums;
  };
  const meansOf = (values: Float64Array) =>
    sumsOf((i) => values[i]).map((sum, at) => sum / Math.max(sizes[Math.floor(at / columns)], 1));
  const [floatMeans, currentMeans] = [meansOf(float), meansOf(current)];
  return {
    sizes,
    float: floatMeans,
    current: currentMeans,
    squares: sumsOf((i, at) => (current[i] - currentMeans[at]) ** 2),
    products: sumsOf((i, at) => (current[i] - currentMeans[at]) * (float[i] - floatMeans[at])),
  };
}

/** Components that leave points as they are: for outputs with few classes. */
export function noComponents(columns: number): PrincipalComponents {
  const directions = Float64Array.from({ length: columns * columns }, (_, i) => (i % (columns + 1) === 0 ? 1 : 0));
  return { mean: new Float64Array(columns), count: columns, directions, variances: new Float64Array(columns) };
}
