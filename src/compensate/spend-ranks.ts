import type { BlockSums } from "../calibrate/block-sums.js";
import type { BlockTrial } from "../calibrate/block-trial.js";
import { directionGainsElsewhere, fitLinear, gainElsewhere, type PairSums } from "../math/ridge.js";
import { type Offer, spendBudget } from "../math/spend-budget.js";
import type { Survey } from "../step/step.js";
import { obstacleIn, ridgeFor, splitGroups } from "./block-fit.js";
import { type BlockSite, bytesOfRank } from "./block-sites.js";

/** What matrices of some ranks take, and by how much they lower the error of a block on samples that they were not fitted on. */
interface RankOffer extends Offer {
  readonly ranks: readonly ("full" | number)[];
}

/**
 * Spends the bytes that all blocks share where a byte lowers the error most. What a block offers is told by its sums alone:
 * the directions of the fit to the one half of the runs are tried on the other, both ways round. Errors are shares of the
 * square of what leaves the block, so that those of different blocks compare.
 *
 * @param sites with the bytes that they share; undefined where each has its own
 */
export function surveyRanks<S extends BlockSite>(
  sites: readonly S[],
): Survey<S, readonly [BlockSums | BlockTrial]> | undefined {
  const shared = sites.at(0)?.sharedBytes;
  if (shared === undefined) return undefined;
  const budget = sites.reduce((left, site) => left - bytesOfRank(site, 0, site.storage), shared);
  const offers = new Map<S, RankOffer>();
  return {
    look(site, [found]) {
      if (found.kind === "sums") offers.set(site, offerOf(site, found, budget));
    },
    settle() {
      const all = sites.map((site) => offers.get(site) ?? nothing);
      const places = spendBudget(all, budget);
      return sites.map((site, i) => ({ ...site, rankWanted: all[i].ranks[places[i]] }));
    },
  };
}

const nothing: RankOffer = { ranks: [0], costs: [0], errors: [0] };

/** @param budget bytes for all matrices together: no matrix that takes more is looked at; negative where constants take all */
function offerOf(site: BlockSite, found: BlockSums, budget: number): RankOffer {
  const [[one, other]] = found.halves;
  if (one === undefined || other === undefined || obstacleIn(found) !== undefined) return nothing;
  const bytes = (rank: number | "full") => bytesOfRank(site, rank, site.storage) - bytesOfRank(site, 0, site.storage);
  const most = site.groups > 1 ? 0 : mostRank(site, bytes, budget);
  const isWhole = bytes("full") <= budget;
  if (most === 0 && !isWhole) return nothing;
  const lambda = ridgeFor(site, found);
  const gains = [
    gainsOf(site, [one, other], lambda, most, isWhole),
    gainsOf(site, [other, one], lambda, most, isWhole),
  ];
  const square = found.squares.target * site.outputChannels * (one.weight + other.weight);
  const ranks = [0, ...Array.from({ length: most }, (_, r) => r + 1), ...(isWhole ? ["full" as const] : [])];
  const errors = ranks.map((_, i) => -gains.reduce((sum, gain) => sum + gain[i], 0) / square);
  return errors.every(Number.isFinite) ? { ranks, costs: ranks.map(bytes), errors } : nothing;
}

/** The largest rank whose factors take less than the whole matrix, and no more than there is. */
function mostRank(
  { inputChannels, outputChannels }: BlockSite,
  bytes: (rank: number | "full") => number,
  budget: number,
): number {
  let rank = Math.min(inputChannels, outputChannels) - 1;
  while (rank > 0 && (bytes(rank) >= bytes("full") || bytes(rank) > budget)) rank--;
  return rank;
}

/** What a fit of each rank gains on the other half: nothing, rank one, two and so on, then the whole matrix. */
function gainsOf(
  site: BlockSite,
  [fitted, held]: readonly [PairSums, PairSums],
  lambda: number,
  most: number,
  isWhole: boolean,
): readonly number[] {
  const [own, others] = [fitted, held].map((sums) => splitGroups(site, sums));
  const fits = own.map((group) => fitLinear(group, lambda));
  const gains = [0];
  for (const gain of directionGainsElsewhere(own[0], fits[0], others[0], most))
    gains.push(gains[gains.length - 1] + gain);
  if (isWhole) gains.push(fits.reduce((sum, fit, g) => sum + gainElsewhere(fit, others[g]), 0));
  return gains;
}
