import { type CorrectedBlock, columnsOf } from "../calibrate/block-rows.js";
import type { BlockSums, Curves } from "../calibrate/block-sums.js";
import type { Correction } from "../calibrate/block-trial.js";
import { fitLinear, type LinearFit, type PairSums, reduceRanks } from "../math/ridge.js";
import type { BlockSite } from "./block-sites.js";
import { type StoredMatrix, storeMatrix } from "./stored-matrix.js";

/** A correction in the form in which a model holds it. */
export interface StoredCorrection extends Correction {
  readonly matrices: readonly StoredMatrix[];
  readonly lambda: number;
}

/** Where outliers rule, or rows are few, a fit of the same ridge follows them. */
const fewRows = 5;
const heavyTails = 100;

/** Beside this share of the target's square an error is rounding of float32. */
const roundingError = 1e-10;

/** Why nothing can be fitted to what was found of a block. */
export function obstacleIn({ rows, halves, squares, largest }: BlockSums): string | undefined {
  if (rows === 0) return "its output was empty on every sample";
  if (halves.some((both) => both.includes(undefined))) {
    return "all samples ran at once: nothing is left to judge a correction on";
  }
  const numbers = [squares.input, squares.error, squares.target, ...largest];
  const areFinite = halves.every((both) => both.every((sums) => sums?.xx.every(Number.isFinite)));
  if (!numbers.every(Number.isFinite) || !areFinite) return "its values are not finite";
  if (squares.error <= roundingError * squares.target) return "its error is no larger than the rounding of float32";
  return undefined;
}

/** The ridge that the rows of a block ask for. */
export function ridgeFor(site: BlockSite, { rows, kurtosis }: BlockSums): number {
  const isUnsure = rows < fewRows * columnsOf(site) || kurtosis.input > heavyTails;
  return isUnsure ? 10 * site.ridge : site.ridge;
}

/** Corrections of some ranks from the same sums. */
export function fitCorrections(
  site: BlockSite,
  sums: PairSums,
  curves: Curves,
  found: BlockSums,
  ranks: readonly ("full" | number)[],
): readonly StoredCorrection[] {
  const lambda = ridgeFor(site, found);
  const groups = splitGroups(site, sums);
  const fits = groups.map((group) => fitLinear(group, lambda));
  const most = curves.error === undefined ? undefined : found.largest;
  const numbers = ranks.filter((rank): rank is number => rank !== 0 && rank !== "full");
  const reduced = numbers.length === 0 ? [] : reduceRanks(sums, fits[0], numbers);
  return ranks.map((rank): StoredCorrection => {
    const shared = { curves, most, lambda: Math.max(...fits.map((fit) => fit.lambda)) };
    if (rank === 0) return { ...shared, matrices: [], offset: meansOf(sums) };
    if (rank === "full") return { ...shared, ...fullMatrix(site, fits) };
    const { left, right, offset } = reduced[numbers.indexOf(rank)];
    const { outputChannels, storage } = site;
    const matrices = [
      storeMatrix(right, rank, columnsOf(site), storage),
      storeMatrix(left, outputChannels, rank, storage),
    ];
    return { ...shared, matrices, offset: Float32Array.from(offset) };
  });
}

function meansOf({ e, weight }: PairSums): Float32Array {
  return Float32Array.from(e, (sum) => sum / weight);
}

/** One matrix for all groups: zero where a group does not look. */
function fullMatrix(site: BlockSite, fits: readonly LinearFit[]) {
  const { outputChannels, storage } = site;
  const columns = columnsOf(site);
  const [ownOutputs, ownColumns] = [outputChannels / fits.length, columns / fits.length];
  const whole = new Float64Array(outputChannels * columns);
  for (const [g, { slope }] of fits.entries()) {
    for (let o = 0; o < ownOutputs; o++) {
      const row = slope.subarray(o * ownColumns, (o + 1) * ownColumns);
      whole.set(row, (g * ownOutputs + o) * columns + g * ownColumns);
    }
  }
  const matrix = storeMatrix(whole, outputChannels, columns, storage);
  return { matrices: [matrix], offset: Float32Array.from(fits.flatMap(({ offset }) => [...offset])) };
}

/** The sums of each group of channels. */
export function splitGroups(site: CorrectedBlock & { readonly groups: number }, sums: PairSums): readonly PairSums[] {
  const { groups } = site;
  if (groups === 1) return [sums];
  const columns = columnsOf(site);
  const [ownOutputs, ownColumns] = [site.outputChannels / groups, columns / groups];
  return Array.from({ length: groups }, (_, g): PairSums => {
    const cut = (values: Float64Array, size: number) => values.slice(g * size, (g + 1) * size);
    const block = (values: Float64Array, rows: number) =>
      Float64Array.from({ length: rows * ownColumns }, (_, i) => {
        const row = g * rows + Math.floor(i / ownColumns);
        return values[row * columns + g * ownColumns + (i % ownColumns)];
      });
    return {
      weight: sums.weight,
      x: cut(sums.x, ownColumns),
      e: cut(sums.e, ownOutputs),
      xx: block(sums.xx, ownColumns),
      ex: block(sums.ex, ownOutputs),
      ee: cut(sums.ee, ownOutputs),
    };
  });
}
