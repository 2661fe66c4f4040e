import type { ValueName } from "../graph/graph.js";
import type { Range } from "../math/distribution.js";
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
  const groups = new Map<ValueName, ActivationSite[]>(sites.map((site) => [site.value, [site]]));
  for (const site of sites) {
    for (const source of site.selectedFrom) {
      const sourceSite = byName.get(source);
      if (!sourceSite || !shouldShare(site, sourceSite, ranges, readerCount(source))) continue;
      const merged = groups.get(site.value) as ActivationSite[];
      const other = groups.get(source) as ActivationSite[];
      if (merged === other) continue;
      merged.push(...other);
      for (const member of other) groups.set(member.value, merged);
    }
  }
  return [...new Set(groups.values())].map((members) => ({
    sites: members,
    format: members.map((member) => member.format).reduce((a, b) => (a.bits >= b.bits ? a : b)),
    spacing: members.every(({ spacing }) => spacing === members[0].spacing) ? members[0].spacing : "uniform",
    range: uniteRanges(members.map((member) => rangeOf(ranges, member.value))),
  }));
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
  return {
    low: Math.min(...ranges.map((range) => range.low)),
    high: Math.max(...ranges.map((range) => range.high)),
  };
}

function width(range: Range): number {
  return Math.max(range.high, 0) - Math.min(range.low, 0);
}
