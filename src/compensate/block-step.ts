import { type BlockSums, BlockSumsStatistic, type Curves, totalOf } from "../calibrate/block-sums.js";
import {
  type BlockError,
  type BlockTrial,
  BlockTrialStatistic,
  type HalvedCorrection,
} from "../calibrate/block-trial.js";
import type { Statistic } from "../calibrate/statistic.js";
import type { Contradiction, OptionValues } from "../step/options.js";
import type { Outcome, Round, Step } from "../step/step.js";
import { fitCorrections, obstacleIn, type StoredCorrection } from "./block-fit.js";
import type { BlockOptions } from "./block-options.js";
import type { BlockSite } from "./block-sites.js";
import { bytesOfRank } from "./block-sites.js";
import { addToBias, type BiasPlace } from "./fold-bias.js";
import { surveyRanks } from "./spend-ranks.js";
import { writeCorrection } from "./write-correction.js";

/** A space in which a block's error may be fitted. */
export interface Kind {
  readonly name: string;
  /** The curves, from what the values themselves are like. */
  curves(found: BlockSums): Curves;
}

export const linear: Kind = { name: "linear", curves: () => ({}) };

/** A site with the kinds that are tried; the first one is what the others have to beat. */
export interface KindSite extends BlockSite {
  readonly kinds: readonly Kind[];
}

/** What a round leads to: spaces to look at, corrections to try, or the one that is kept. */
type Solution =
  | { readonly kind: "look"; readonly curves: readonly Curves[] }
  | { readonly kind: "try"; readonly options: readonly Option[] }
  | { readonly kind: "keep"; readonly correction: StoredCorrection };

/** A correction as fitted on the halves, to be judged. */
interface Option {
  readonly kind: number;
  readonly rank: "full" | number;
  readonly bytes: number;
  readonly halves: readonly [StoredCorrection, StoredCorrection];
}

type Found = readonly [BlockSums | BlockTrial];

/** The share of a block's error that a correction has to take away on samples that it was not fitted on. */
const leastGain = 0.01;
/** By how much another kind has to be better than the first. */
const leastAdvantage = 0.02;
/** Of two corrections of a kind the smaller one is taken if it does so much of what the better one does. */
const enough = 0.97;

type BlockStep = Pick<
  Step<Record<never, never>, KindSite, Found, Solution>,
  "isTried" | "movesRanges" | "survey" | "statistics" | "solve" | "rewrite"
> & {
  alternatives(options: Pick<BlockOptions, "rho">): readonly OptionValues[];
  contradiction(options: Pick<BlockOptions, "rank" | "groups">): Contradiction | undefined;
};

/** Measures, fits, tries on what was held back, keeps or drops: what all corrections of blocks have in common. */
export const blockStep: BlockStep = {
  isTried: true,
  alternatives: ({ rho }) => (rho === "auto" ? [{ rho: 0 }] : []),
  // The factors of a low rank mix all channels.
  contradiction: ({ rank, groups }) =>
    typeof rank === "number" && groups > 1
      ? { option: "groups", message: "must be 1 where rank is a number: only full matrices fall into groups" }
      : undefined,
  movesRanges: true,
  survey: surveyRanks,
  statistics: (site, rounds) => [statisticFor(site, rounds) as Statistic<BlockSums | BlockTrial>],
  solve(site, [found], rounds) {
    if (found.kind === "trial") return decide(site, found, rounds);
    const obstacle = obstacleIn(found);
    if (obstacle !== undefined) return { kind: "skipped", reason: obstacle };
    const curves = site.kinds.map((kind) => kind.curves(found));
    const isMeasured = rounds.length > 0 || curves.every(isStraight);
    if (!isMeasured) return { kind: "refine", solution: { kind: "look", curves } };
    return { kind: "refine", solution: { kind: "try", options: optionsOf(site, found, curvesSeen(rounds)) } };
  },
  rewrite(graph, site, solution) {
    if (solution.kind !== "keep") throw new Error(`${site.label} was rewritten before it was decided`);
    const { correction } = solution;
    return isBias(site, correction)
      ? addToBias(graph, site.constantPlace, Float64Array.from(correction.offset))
      : writeCorrection(graph, site, correction);
  },
};

/** Whether a correction is a constant that a layer's bias can take. */
function isBias(
  site: KindSite,
  { matrices, curves }: StoredCorrection,
): site is KindSite & { readonly constantPlace: BiasPlace } {
  return matrices.length === 0 && curves.error === undefined && site.constantPlace !== undefined;
}

function statisticFor(site: KindSite, rounds: readonly Round<Found, Solution>[]) {
  const last = rounds.at(-1)?.solution;
  if (last?.kind !== "try") return new BlockSumsStatistic(site, last?.kind === "look" ? last.curves : [{}]);
  const corrections = last.options.map(({ halves }): HalvedCorrection => halves);
  const about = JSON.stringify([site.kinds.map(({ name }) => name), site.ridge, site.storage, site.rankWanted]);
  return new BlockTrialStatistic(site, corrections, about);
}

function isStraight({ input, error }: Curves): boolean {
  return input === undefined && error === undefined;
}

function curvesSeen(rounds: readonly Round<Found, Solution>[]): readonly Curves[] {
  const looks = rounds.flatMap(({ solution }) => (solution.kind === "look" ? [solution.curves] : []));
  return looks.at(-1) ?? [{}];
}

/** Every kind at every rank that may be kept. */
function optionsOf(site: KindSite, found: BlockSums, curves: readonly Curves[]): readonly Option[] {
  const ranks = ranksFor(site);
  return found.halves.flatMap((halves, kind): readonly Option[] => {
    const fitted = (sums: (typeof halves)[number]) =>
      sums === undefined ? [] : fitCorrections(site, sums, curves[kind], found, ranks);
    const [one, other] = halves.map(fitted);
    return ranks.map((rank, i) => ({
      kind,
      rank,
      bytes: bytesOfRank(site, rank, site.storage),
      halves: [one[i], other[i]],
    }));
  });
}

/** The constant alone is always tried: it costs next to nothing. */
function ranksFor({ rankWanted, isRankFree }: BlockSite): readonly ("full" | number)[] {
  if (rankWanted === "full" || rankWanted === 0) return rankWanted === 0 ? [0] : [0, rankWanted];
  const half = Math.floor(rankWanted / 2);
  return isRankFree && half >= 4 ? [0, half, rankWanted] : [0, rankWanted];
}

function decide(site: KindSite, found: BlockTrial, rounds: readonly Round<Found, Solution>[]): Outcome<Solution> {
  const last = rounds.at(-1)?.solution;
  const options = last?.kind === "try" ? last.options : [];
  const { before, after } = found;
  const errorOf = (option: Option) => after[options.indexOf(option)].judged;
  const finite = options.filter((option) => Number.isFinite(errorOf(option)));
  const ofKind = site.kinds.map((_, kind) =>
    best(
      finite.filter((option) => option.kind === kind),
      errorOf,
      before.judged,
    ),
  );
  const [first, ...others] = ofKind;
  const chosen = others.reduce((kept, other) => {
    if (other === undefined) return kept;
    return kept === undefined || errorOf(other) < (1 - leastAdvantage) * errorOf(kept) ? other : kept;
  }, first);
  const error = chosen === undefined ? Math.min(...finite.map(errorOf)) : errorOf(chosen);
  if (chosen === undefined || !(error <= (1 - leastGain) * before.judged)) {
    if (finite.length === 0) return { kind: "skipped", reason: "on samples held back its error would not be finite" };
    const ratio = (error / before.judged).toFixed(3);
    return { kind: "skipped", reason: `on samples held back its error would be ${ratio} times what it is` };
  }
  const correction = fitWhole(site, chosen, rounds);
  const remark = describe(site, chosen, correction, before, after[options.indexOf(chosen)], rounds);
  const solution = { kind: "keep", correction } as const;
  const form = site.kinds[chosen.kind].name;
  return { kind: "solved", solution, errorBefore: before.judged, errorAfter: error, form, remark };
}

/** The correction as fitted on everything. */
function fitWhole(site: KindSite, { kind, rank }: Option, rounds: readonly Round<Found, Solution>[]): StoredCorrection {
  const found = rounds.at(-1)?.found[0];
  const sums = found?.kind === "sums" ? totalOf(found.halves[kind]) : undefined;
  if (found?.kind !== "sums" || sums === undefined) throw new Error(`${site.label} was decided before it was measured`);
  return fitCorrections(site, sums, curvesSeen(rounds)[kind], found, [rank])[0];
}

/** The smallest of those that do nearly as much as the best. */
function best(options: readonly Option[], errorOf: (option: Option) => number, before: number): Option | undefined {
  const gain = (option: Option) => before - errorOf(option);
  const most = Math.max(...options.map(gain));
  const good = options.filter((option) => gain(option) >= enough * most);
  return good.reduce<Option | undefined>((least, one) => (least && least.bytes <= one.bytes ? least : one), undefined);
}

function describe(
  site: KindSite,
  { kind, rank, bytes }: Option,
  correction: StoredCorrection,
  before: BlockError,
  after: BlockError,
  rounds: readonly Round<Found, Solution>[],
): string {
  const { kinds, norm } = site;
  const { lambda } = correction;
  const sums = rounds[0].found[0];
  const kurtosis = sums.kind === "sums" ? sums.kurtosis : { input: 0, error: 0 };
  const ratio = (key: keyof BlockError) => (after[key] / before[key]).toFixed(3);
  const judged = norm === undefined ? "" : `, ${ratio("judged")} behind the next normalization`;
  const constant = isBias(site, correction) ? "constant, in the bias of a layer" : "constant";
  const form = rank === 0 ? constant : rank === "full" ? "full" : `rank ${rank}`;
  const tails = `kurtosis ${round(kurtosis.input)} of the input, ${round(kurtosis.error)} of the error`;
  const size = isBias(site, correction) ? 0 : bytes;
  return `${kinds[kind].name}, ${form}, ridge ${lambda}: error ${ratio("raw")}${judged}; ${tails}; ${size} bytes`;
}

function round(value: number): string {
  return value < 100 ? value.toFixed(1) : value.toFixed(0);
}
