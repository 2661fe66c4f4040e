import type { Share, Statistic } from "../calibrate/statistic.js";
import type { Graph, ValueName } from "../graph/graph.js";
import { applyPatch } from "../graph/patch.js";
import { type FormsTaken, joinForms } from "../step/forms.js";
import type { OpenSite } from "../step/open-step.js";
import type { Solved } from "../step/step.js";

/** What became of a site. */
export type SiteRecord =
  | (Solved & { readonly label: string; readonly kind: "solved" })
  | { readonly label: string; readonly kind: "skipped"; readonly reason: string };

/** A site that was solved, as a checkpoint holds it. */
export interface SolvedSite {
  /** Index of its step. */
  readonly step: number;
  /** The value that the step changes there. */
  readonly value: ValueName;
  readonly record: SiteRecord;
  /** Plain data; undefined where the site was skipped. */
  readonly solution: unknown;
}

/** What a step did. */
export interface StepResult {
  readonly name: string;
  /** What became of the sites that were solved, in words: "layers compensated". */
  readonly outcome: string;
  readonly sites: readonly SiteRecord[];
}

/** The forms that steps took at the sites that they solved. */
export function formsIn(results: readonly StepResult[]): FormsTaken {
  const formsOf = ({ name, sites }: StepResult): readonly FormsTaken[] =>
    sites.flatMap((site) => (site.kind === "solved" && site.form !== undefined ? [{ [name]: [site.form] }] : []));
  return joinForms(results.flatMap(formsOf));
}

/** Sites of one step that do not see each other's changes. */
export interface SiteGroup {
  readonly step: number;
  readonly sites: readonly OpenSite[];
}

/**
 * Measures, solves and rewrites sites; measures again those that ask for it.
 *
 * @param collect folds the samples into statistics of which no two have the same key
 */
export async function solveSites(
  graph: Graph,
  { step, sites }: SiteGroup,
  collect: (statistics: readonly Statistic<unknown>[]) => Promise<void>,
): Promise<{ readonly graph: Graph; readonly solved: readonly SolvedSite[] }> {
  const solved: SolvedSite[] = [];
  let rewritten = graph;
  let open = sites;
  while (open.length > 0) {
    const statistics = new Map<string, Statistic<unknown>>();
    const share: Share = (statistic) => {
      const known = statistics.get(statistic.key) ?? statistic;
      statistics.set(statistic.key, known);
      return known as typeof statistic;
    };
    for (const site of open) site.measure(share, rewritten);
    await collect([...statistics.values()]);
    const again: OpenSite[] = [];
    for (const site of open) {
      const { label, value } = site;
      const progress = site.advance(rewritten);
      if (progress.kind === "again") again.push(site);
      else if (progress.kind === "skipped") {
        solved.push({ step, value, record: skipped(label, progress.reason), solution: undefined });
      } else {
        const { patch, solution, ...record } = progress;
        rewritten = applyPatch(rewritten, patch);
        solved.push({ step, value, record: { label, ...record }, solution });
      }
    }
    open = again;
  }
  return { graph: rewritten, solved };
}

export function skipped(label: string, reason: string): SiteRecord {
  return { label, kind: "skipped", reason };
}
