import type { BlockSums } from "../calibrate/block-sums.js";
import type { BlockTrial } from "../calibrate/block-trial.js";
import { fitLinear, gainsElsewhere, type PairSums } from "../math/ridge.js";
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
  const offers = new Map<S, RankOffer>();
  return {
    look(site, [found]) {
      if (found.kind === "sums") offers.set(site, offerOf(site, found));
    },
    settle() {
      const constants = sites.reduce((sum, site) => sum + bytesOfRank(site, 0, site.storage), 0);
      const all = sites.map((site) => offers.get(site) ?? nothing);
      const places = spendBudget(all, shared - constants);
      return sites.map((site, i) => ({ ...site, rankWanted: all[i].ranks[places[i]] }));
    },
  };
}

const nothing: RankOffer = { ranks: [0], costs: [0], errors: [0] };

function offerOf(site: BlockSite, found: BlockSums): RankOffer {
  const [[one, other]] = found.halves;
  if (one === undefined || other === undefined || obstacleIn(found) !== undefined) return nothing;
  const bytes = (rank: number | "full") => bytesOfRank(site, rank, site.storage) - bytesOfRank(site, 0, site.storage);
  const most = site.groups > 1 ? 0 : mostRank(site, bytes);
  const lambda = ridgeFor(site, found);
  const gains = [gainsOf(site, one, other, lambda, most), gainsOf(site, other, one, lambda, most)];
  const square = found.squares.target * site.outputChannels * (one.weight + other.weight);
  const gainOf = (of: (gain: (typeof gains)[number]) => number) =>
    gains.reduce((sum, gain) => sum + of(gain), 0) / square;
  let error = 0;
  const lower = Array.from({ length: most }, (_, r) => {
    error -= gainOf(({ directions }) => directions[r]);
    return error;
  });
  const errors = [0, ...lower, -gainOf(({ whole }) => whole)];
  const ranks = [0, ...lower.map((_, r) => r + 1), "full" as const];
  return errors.every(Number.isFinite) ? { ranks, costs: ranks.map(bytes), errors } : nothing;
}

/** The largest rank whose factors take less than the whole matrix. */
function mostRank({ inputChannels, outputChannels }: BlockSite, bytes: (rank: number | "full") => number): number {
  let rank = Math.min(inputChannels, outputChannels) - 1;
  while (rank > 0 && bytes(rank) >= bytes("full")) rank--;
  return rank;
}

function gainsOf(site: BlockSite, sums: PairSums, held: PairSums, lambda: number, most: number) {
  const others = splitGroups(site, held);
  const gains = splitGroups(site, sums).map((own, g) => gainsElsewhere(own, fitLinear(own, lambda), others[g], most));
  return { whole: gains.reduce((sum, { whole }) => sum + whole, 0), directions: gains[0].directions };
}
