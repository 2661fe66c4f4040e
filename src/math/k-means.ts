import { createRandom, type Random } from "./random.js";

/** Points in groups around centres. */
export interface Clustering {
  /** `[count, dimensions]` */
  readonly centers: Float64Array;
  readonly count: number;
  /** The nearest centre of each point, the first one where several are equally near. `[points]` */
  readonly assignment: Int32Array;
  /** Sum of the squared distances from the centres. */
  readonly inertia: number;
}

export interface KMeansOptions {
  readonly clusters: number;
  /** A safe integer. */
  readonly seed: number;
  /** Beginnings, of which the one that ends with the smallest inertia counts. */
  readonly restarts?: number;
  /** Rounds of a beginning, at most. */
  readonly rounds?: number;
}

/**
 * Lloyd's k-means from k-means++ beginnings. The order of the points does not matter: they are sorted first, so that the
 * same points give the same centres. A cluster that loses all its points gets the one that lies farthest from its centre.
 * Points that are fewer, or fewer different ones, than clusters make fewer clusters.
 *
 * @param points `[rows, dimensions]`, finite
 * @see Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, 2007
 */
export function kMeans(
  points: Float64Array,
  dimensions: number,
  { clusters, seed, restarts = 10, rounds = 100 }: KMeansOptions,
): Clustering {
  const order = sortedRows(points, dimensions);
  const sorted = new Float64Array(points.length);
  for (const [to, from] of order.entries()) {
    sorted.set(points.subarray(from * dimensions, (from + 1) * dimensions), to * dimensions);
  }
  const random = createRandom(seed);
  let best: Clustering | undefined;
  for (let restart = 0; restart < restarts; restart++) {
    const centers = beginCenters(sorted, dimensions, clusters, random);
    const found = moveCenters(sorted, dimensions, centers, rounds);
    if (best === undefined || found.inertia < best.inertia) best = found;
  }
  if (best === undefined) throw new Error("k-means needs one beginning at least");
  const assignment = new Int32Array(order.length);
  for (const [from, to] of order.entries()) assignment[to] = best.assignment[from];
  return { ...best, assignment };
}

/**
 * Puts clusters of too few points together with the one whose centre is nearest, the smallest first, until none is left or
 * only one; every point then goes to the centre that is nearest.
 */
export function mergeSmallClusters(
  points: Float64Array,
  dimensions: number,
  clustering: Clustering,
  fewest: number,
): Clustering {
  let { centers, count, assignment } = clustering;
  let inertia = clustering.inertia;
  while (count > 1) {
    const sizes = sizesOf(assignment, count);
    const smallest = sizes.reduce((least, size, i) => (size < sizes[least] ? i : least), 0);
    if (sizes[smallest] >= fewest) break;
    centers = withoutCenter(centers, dimensions, sizes, smallest);
    count--;
    ({ assignment, inertia } = assignPoints(points, dimensions, centers));
  }
  return { centers, count, assignment, inertia };
}

/** How many points each cluster has. */
export function sizesOf(assignment: Int32Array, count: number): number[] {
  const sizes = new Array<number>(count).fill(0);
  for (const cluster of assignment) sizes[cluster]++;
  return sizes;
}

/** The nearest centre of each point, the first one where several are equally near. */
export function assignPoints(
  points: Float64Array,
  dimensions: number,
  centers: Float64Array,
): { readonly assignment: Int32Array; readonly distances: Float64Array; readonly inertia: number } {
  const rows = points.length / dimensions;
  const count = centers.length / dimensions;
  const assignment = new Int32Array(rows);
  const distances = new Float64Array(rows).fill(Number.POSITIVE_INFINITY);
  for (let row = 0; row < rows; row++) {
    for (let center = 0; center < count; center++) {
      const distance = squaredDistance(points, row, centers, center, dimensions);
      if (distance < distances[row]) {
        distances[row] = distance;
        assignment[row] = center;
      }
    }
  }
  return { assignment, distances, inertia: distances.reduce((sum, distance) => sum + distance, 0) };
}

/** k-means++: every next centre is a point, the likelier the farther it lies from those before. */
function beginCenters(points: Float64Array, dimensions: number, clusters: number, random: Random): Float64Array {
  const rows = points.length / dimensions;
  const chosen = [random.below(rows)];
  const distances = new Float64Array(rows).fill(Number.POSITIVE_INFINITY);
  while (chosen.length < clusters) {
    const latest = chosen[chosen.length - 1];
    let total = 0;
    for (let row = 0; row < rows; row++) {
      distances[row] = Math.min(distances[row], squaredDistance(points, row, points, latest, dimensions));
      total += distances[row];
    }
    // Every point is a centre already.
    if (!(total > 0)) break;
    chosen.push(drawRow(distances, (random.next() / 2 ** 32) * total));
  }
  const centers = new Float64Array(chosen.length * dimensions);
  for (const [i, row] of chosen.entries()) {
    centers.set(points.subarray(row * dimensions, (row + 1) * dimensions), i * dimensions);
  }
  return centers;
}

/** The row at which the running sum of distances passes a place. */
function drawRow(distances: Float64Array, place: number): number {
  let sum = 0;
  let last = 0;
  for (let row = 0; row < distances.length; row++) {
    if (distances[row] === 0) continue;
    sum += distances[row];
    last = row;
    if (sum > place) return row;
  }
  return last;
}

/** Lloyd's rounds, until no point changes its cluster. */
function moveCenters(points: Float64Array, dimensions: number, from: Float64Array, rounds: number): Clustering {
  let centers = from;
  const count = from.length / dimensions;
  let found = assignPoints(points, dimensions, centers);
  for (let round = 0; round < rounds; round++) {
    const members = fillEmptied(found.assignment, found.distances, count);
    centers = meansOf(points, dimensions, members, count);
    const next = assignPoints(points, dimensions, centers);
    const isSettled = next.assignment.every((cluster, row) => cluster === members[row]);
    found = next;
    if (isSettled) break;
  }
  return { centers, count, assignment: found.assignment, inertia: found.inertia };
}

/** Gives clusters without points the points that lie farthest from their centres, each taken from a cluster that has more. */
function fillEmptied(assignment: Int32Array, distances: Float64Array, count: number): Int32Array {
  const sizes = sizesOf(assignment, count);
  if (!sizes.includes(0)) return assignment;
  const filled = assignment.slice();
  const left = distances.slice();
  for (const [cluster, size] of sizes.entries()) {
    if (size > 0) continue;
    const candidates = left.map((distance, row) => (sizes[filled[row]] > 1 ? distance : -1));
    const farthest = candidates.reduce((most, distance, row) => (distance > candidates[most] ? row : most), 0);
    if (!(candidates[farthest] >= 0)) continue;
    sizes[filled[farthest]]--;
    filled[farthest] = cluster;
    sizes[cluster]++;
    left[farthest] = -1;
  }
  return filled;
}

/** The mean of each cluster's points. */
function meansOf(points: Float64Array, dimensions: number, assignment: Int32Array, count: number): Float64Array {
  const sums = new Float64Array(count * dimensions);
  for (const [row, cluster] of assignment.entries()) {
    for (let i = 0; i < dimensions; i++) sums[cluster * dimensions + i] += points[row * dimensions + i];
  }
  const sizes = sizesOf(assignment, count);
  return sums.map((sum, at) => sum / Math.max(sizes[Math.floor(at / dimensions)], 1));
}

/** The centre moved into the nearest other one, each with the weight of its points. */
function withoutCenter(
  centers: Float64Array,
  dimensions: number,
  sizes: readonly number[],
  dropped: number,
): Float64Array {
  const others = sizes.map((_, i) => i).filter((i) => i !== dropped);
  const distanceTo = (i: number) => squaredDistance(centers, dropped, centers, i, dimensions);
  const nearest = others.reduce((best, i) => (distanceTo(i) < distanceTo(best) ? i : best));
  const weight = Math.max(sizes[nearest] + sizes[dropped], 1);
  const merged = others.map((i) => {
    const center = centers.subarray(i * dimensions, (i + 1) * dimensions);
    if (i !== nearest || sizes[dropped] === 0) return center;
    return center.map(
      (value, d) => (sizes[nearest] * value + sizes[dropped] * centers[dropped * dimensions + d]) / weight,
    );
  });
  return Float64Array.from(merged.flatMap((center) => [...center]));
}

function squaredDistance(a: Float64Array, row: number, b: Float64Array, other: number, dimensions: number): number {
  let sum = 0;
  for (let i = 0; i < dimensions; i++) sum += (a[row * dimensions + i] - b[other * dimensions + i]) ** 2;
  return sum;
}

/** The numbers of the rows, in the order of their first entry that differs. */
function sortedRows(points: Float64Array, dimensions: number): readonly number[] {
  const compare = (a: number, b: number) => {
    for (let i = 0; i < dimensions; i++) {
      const difference = points[a * dimensions + i] - points[b * dimensions + i];
      if (difference !== 0) return difference;
    }
    return 0;
  };
  return Array.from({ length: points.length / dimensions }, (_, row) => row).sort(compare);
}
