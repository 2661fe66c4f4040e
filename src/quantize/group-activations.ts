import type { ValueName } from "../graph/graph.js";
import type { Range } from "../math/distribution.js";
import { groupBy } from "../math/group-by.js";
import type { ActivationSite } from "./choose-activations.js";
import type { ActivationFormat } from "./format.js";
import type { Spacing } from "./spacing.js";

/** Values that share one grid. */
export interface ActivationGroup {
  readonly sites: readonly ActivationSite[];
  readonly format: ActivationFormat;
  readonly spacing: Spacing;
  readonly range: Range;
}

/** A grid this many times coarser than a value needs costs the value more than one bit. */
const tolerableCoarseness = 2;

/**
 * Values that only select elements of each other share a grid, so that nothing is rounded twice and onnxruntime can move
 * codes instead of floats. Around a Concat that is the grid its reader sees anyway; but an input that has other readers
 * keeps its own grid where the shared one would be more than twice as coarse for it.
 *
 * @param readerCount how many nodes read a value
 */
export function groupActivations(
  sites: readonly ActivationSite[],
  ranges: ReadonlyMap<ValueName, Range>,
  readerCount: (value: ValueName) => number,
): readonly ActivationGroup[] {
  const byName = new Map(sites.map((site) => [site.value, site]));
  const sharing = new SharedGrids(sites);
  for (const site of sites) {
    for (const source of site.selectedFrom) {
      const sourceSite = byName.get(source);
      if (sourceSite && shouldShare(site, sourceSite, ranges, readerCount(source))) sharing.join(site, sourceSite);
    }
  }
  return sharing.groups().map((members) => ({
    sites: members,
    format: members.map((member) => member.format).reduce((a, b) => (a.bits >= b.bits ? a : b)),
    spacing: members.every(({ spacing }) => spacing === members[0].spacing) ? members[0].spacing : "uniform",
    range: uniteRanges(members.map((member) => rangeOf(ranges, member.value))),
  }));
}

/** Disjoint sets of sites. However they are joined, each site is looked at a few times only. */
class SharedGrids {
  readonly #sites: readonly ActivationSite[];
  readonly #parents = new Map<ActivationSite, ActivationSite>();

  constructor(sites: readonly ActivationSite[]) {
    this.#sites = sites;
  }

  join(a: ActivationSite, b: ActivationSite): void {
    const [first, second] = [this.#rootOf(a), this.#rootOf(b)];
    if (first !== second) this.#parents.set(second, first);
  }

  /** Both the groups and their members in the order of the sites. */
  groups(): readonly (readonly ActivationSite[])[] {
    return [...groupBy(this.#sites, (site) => this.#rootOf(site)).values()];
  }

  #rootOf(site: ActivationSite): ActivationSite {
    let root = site;
    for (let parent = this.#parents.get(root); parent !== undefined; parent = this.#parents.get(root)) {
      const above = this.#parents.get(parent);
      // Halves the way for the next one who asks.
      if (above !== undefined) this.#parents.set(root, above);
      root = above ?? parent;
    }
    return root;
  }
}

function shouldShare(
  site: ActivationSite,
  source: ActivationSite,
  ranges: ReadonlyMap<ValueName, Range>,
  readers: number,
): boolean {
  if (site.selectedFrom.length === 1 || readers === 1) return true;
  return width(rangeOf(ranges, site.value)) <= tolerableCoarseness * width(rangeOf(ranges, source.value));
}

function rangeOf(ranges: ReadonlyMap<ValueName, Range>, value: ValueName): Range {
  const range = ranges.get(value);
  if (!range) throw new Error(`no range was collected for ${value}`);
  return range;
}

/** The range that holds all of some ranges. */
export function uniteRanges(ranges: readonly Range[]): Range {
  return ranges.reduce((a, b) => ({ low: Math.min(a.low, b.low), high: Math.max(a.high, b.high) }));
}

function width(range: Range): number {
  return Math.max(range.high, 0) - Math.min(range.low, 0);
}
