import type { Range } from "../../math/distribution.js";
import { distributionOfObserved, errorOf, type RangeEstimator } from "./estimator.js";

/** Steps between nothing and the extremes that are tried first; the error has several valleys at few bits. */
const stepsAlongLine = 100;
const stepsPerSide = 12;

/** How many of the best places are looked at more closely, and to which share of the extremes. */
const refined = 2;
const finest = 1 / 500;

/** Of the lower and the upper extreme. */
interface Shares {
  readonly low: number;
  readonly high: number;
}

interface Place extends Shares {
  readonly error: number;
}

/**
 * The range with the smallest squared error on the very grid that it leads to, rounding and cutting off included: a net of
 * candidates, the extremes themselves among them, then a closer look around the best.
 *
 * @see docs/methods/ranges.md
 */
export const meanSquaredError: RangeEstimator = {
  name: "mse",
  summary: "the range with the smallest squared error",
  needs: "distribution",
  estimate(observed, rule) {
    const distribution = distributionOfObserved(observed);
    return rangeOfLeastError(observed.extremes, rule.symmetric, (range, most) =>
      errorOf(distribution, rule, range, most),
    );
  },
};

/**
 * The range with the smallest error, zero and the extremes included.
 *
 * @param errorAt of a range; errors above `most` need not be told apart
 */
export function rangeOfLeastError(
  extremes: Range,
  symmetric: boolean,
  errorAt: (range: Range, most: number) => number,
): Range {
  const { low, high } = outer(extremes, symmetric);
  const rangeAt = (place: Shares): Range => ({ low: place.low * low, high: place.high * high });
  // Rounding errors of the sums must not rule out what is as good.
  const tryAt = ({ low, high }: Shares, most: number): Place => {
    const error = errorAt(rangeAt({ low, high }), most * (1 + 1e-9));
    return { low, high, error };
  };
  const isLine = symmetric || low === 0 || high === 0;
  const steps = isLine ? stepsAlongLine : stepsPerSide;
  const best = bestOf(isLine ? alongLine : onBothSides, tryAt)
    .map((place) => refine(place, 1 / steps, isLine, tryAt))
    .reduce((a, b) => (b.error < a.error ? b : a));
  return rangeAt(best);
}

/** The widest range worth a try. Zero is on every grid. */
function outer(extremes: Range, symmetric: boolean): Range {
  const low = Math.min(extremes.low, 0);
  const high = Math.max(extremes.high, 0);
  const reach = Math.max(-low, high);
  return symmetric ? { low: -reach, high: reach } : { low, high };
}

/** From the extremes inwards, so that of equal errors the wider range comes first. */
function net(steps: number, isLine: boolean): readonly Shares[] {
  const shares = Array.from({ length: steps }, (_, i) => (steps - i) / steps);
  if (isLine) return shares.map((share) => ({ low: share, high: share }));
  return shares.flatMap((low) => shares.map((high) => ({ low, high })));
}

/** The same for every row of every weight. */
const alongLine = net(stepsAlongLine, true);
const onBothSides = net(stepsPerSide, false);

type TryAt = (shares: Shares, most: number) => Place;

/** The best few of some candidates; of equal ones the first. */
function bestOf(candidates: readonly Shares[], tryAt: TryAt): readonly Place[] {
  const best: Place[] = [];
  for (const candidate of candidates) {
    const isFull = best.length === refined;
    const place = tryAt(candidate, isFull ? best[refined - 1].error : Number.POSITIVE_INFINITY);
    const rank = best.findIndex(({ error }) => place.error < error);
    if (rank < 0 && isFull) continue;
    best.splice(rank < 0 ? best.length : rank, 0, place);
    if (best.length > refined) best.pop();
  }
  return best;
}

/** Goes to better neighbours, ever nearer ones. */
function refine(start: Place, distance: number, isLine: boolean, tryAt: TryAt): Place {
  let place = start;
  for (let step = distance / 2; step > finest; step /= 2) {
    for (const [low, high] of isLine ? lineNeighbours : neighbours) {
      const next = { low: share(place.low + low * step), high: share(place.high + high * step) };
      const tried = tryAt(next, place.error);
      if (tried.error < place.error) place = tried;
    }
  }
  return place;
}

const lineNeighbours = [
  [-1, -1],
  [1, 1],
] as const;
const neighbours = [...lineNeighbours, [-1, 0], [1, 0], [0, -1], [0, 1], [-1, 1], [1, -1]] as const;

function share(value: number): number {
  return Math.min(Math.max(value, finest), 1);
}
