import type { Share, Statistic, Tap } from "../calibrate/statistic.js";
import type { Graph, ValueName } from "../graph/graph.js";
import type { GraphPatch } from "../graph/patch.js";
import type { Range } from "../math/distribution.js";
import { type Contradiction, fillOptions, type OptionList, type OptionValues } from "./options.js";
import type { Findings, Outcome, Round, Site, Solved, StatisticsOf, Step, StepContext, UnusableSite } from "./step.js";

/** A step with its types closed over, so that steps of all kinds stand in one list. */
export interface AnyStep {
  readonly name: string;
  readonly summary: string;
  readonly options: OptionList;
  /** As in `Step`, with the options that are given and all others. */
  contradiction(given: OptionValues): Contradiction | undefined;
  readonly isTried: boolean;
  /** As in `Step`, with the options that are given and all others. */
  alternatives(given: OptionValues): readonly OptionValues[];
  /** As in `Step`, with the options that are given and all others. */
  simpler(given: OptionValues, forms?: ReadonlySet<string>): readonly OptionValues[];
  /** As in `Step`, with the options that are given and all others. */
  addsOperators(given: OptionValues): boolean;
  /** @param given what a recipe says of the options; the rest is filled in */
  open(context: StepContext, given?: OptionValues): OpenStep;
}

/** A step at work on one network. */
export interface OpenStep {
  readonly name: string;
  /** As in `Step`. */
  readonly outcome: string;
  readonly movesRanges?: boolean;
  readonly unusable: readonly UnusableSite[];
  readonly sites: readonly OpenSite[];
  /** For steps that look at all sites before anything is changed: what is looked at, and the step that follows from it. */
  readonly survey?: { readonly sites: readonly OpenSite[]; settle(): OpenStep };
}

/** One site at work: remembers its rounds. */
export interface OpenSite {
  readonly label: string;
  readonly value: ValueName;
  /** What the statistics of all rounds look at. */
  readonly taps: readonly Tap[];
  /** Fresh statistics for the next round; several sites may share one. */
  measure(share: Share, graph: Graph): readonly Statistic<unknown>[];
  /** Solves with what the last statistics found. */
  advance(graph: Graph): SiteProgress;
  /** Rewrites with a solution that was found before. */
  restore(graph: Graph, solution: unknown): GraphPatch;
  /** As in `Step`, for a solution that was found. */
  weightRanges(
    solution: unknown,
    known: ReadonlyMap<ValueName, readonly Range[]>,
  ): ReadonlyMap<ValueName, readonly Range[]>;
  /** Undefined where solving takes little. */
  readonly standIn?: { readonly work: number; advance(graph: Graph): SiteProgress };
}

export type SiteProgress =
  | { readonly kind: "again" }
  | (Solved & { readonly kind: "solved"; readonly patch: GraphPatch; readonly solution: unknown })
  | { readonly kind: "skipped"; readonly reason: string };

export function defineStep<Options extends OptionList, S extends Site, Found extends Findings, Solution>(
  step: Step<Options, S, Found, Solution>,
): AnyStep {
  return {
    name: step.name,
    summary: step.summary,
    options: step.options,
    contradiction: (given) => step.contradiction?.(fillOptions(step.options, given)),
    isTried: step.isTried ?? false,
    alternatives(given) {
      const options = fillOptions(step.options, given);
      return (step.alternatives?.(options) ?? []).map((other) => ({ ...options, ...other }));
    },
    simpler(given, forms) {
      const options = fillOptions(step.options, given);
      return (step.simpler?.(options, forms) ?? []).map((other) => ({ ...options, ...other }));
    },
    addsOperators: (given) => step.addsOperators?.(fillOptions(step.options, given)) ?? false,
    open(context, given = {}) {
      const { usable, unusable } = step.sites(context, fillOptions(step.options, given));
      const { name, outcome, movesRanges } = step;
      const openSites = (sites: readonly S[], solving = step): OpenStep => ({
        name,
        outcome,
        movesRanges,
        unusable,
        sites: sites.map((site) => openSite(solving, site, context.current)),
      });
      const survey = step.survey?.(usable);
      if (survey === undefined) return openSites(usable);
      const solve = (site: S, found: Found): Outcome<Solution> => {
        survey.look(site, found);
        return { kind: "skipped", reason: "it is only looked at" };
      };
      const { sites } = openSites(usable, { ...step, solve });
      return { ...openSites(usable), survey: { sites, settle: () => openSites(survey.settle()) } };
    },
  };
}

function openSite<Options extends OptionList, S extends Site, Found extends Findings, Solution>(
  step: Step<Options, S, Found, Solution>,
  site: S,
  graph: Graph,
): OpenSite {
  const rounds: Round<Found, Solution>[] = [];
  const listed = (statistics: StatisticsOf<Found>) => statistics as unknown as readonly Statistic<unknown>[];
  let current: readonly Statistic<unknown>[] | undefined;
  const { standIn } = step;
  return {
    label: site.label,
    value: site.value,
    taps: listed(step.statistics(site, [], graph)).flatMap(({ taps }) => taps),
    measure(share, now) {
      current = listed(step.statistics(site, rounds, now)).map((statistic) => share(statistic));
      return current;
    },
    advance(graph) {
      if (!current) throw new Error(`${site.label} was solved before it was measured`);
      const found = current.map((statistic) => statistic.result()) as unknown as Found;
      // The site stays to the end of the walk; what was found may take megabytes.
      current = undefined;
      const outcome = step.solve(site, found, rounds);
      if (outcome.kind === "refine") {
        rounds.push({ found, solution: outcome.solution });
        return { kind: "again" };
      }
      rounds.length = 0;
      if (outcome.kind === "skipped") return outcome;
      return { ...outcome, patch: step.rewrite(graph, site, outcome.solution) };
    },
    // What a checkpoint holds is what this step found: the walk sees to that.
    restore: (graph, solution) => step.rewrite(graph, site, solution as Solution),
    weightRanges: (solution, known) => step.weightRanges?.(site, solution as Solution, known) ?? new Map(),
    standIn: standIn && {
      work: standIn.work(site),
      advance(graph) {
        current = undefined;
        const solution = standIn.solution(site);
        return { kind: "solved", errorBefore: 0, errorAfter: 0, solution, patch: step.rewrite(graph, site, solution) };
      },
    },
  };
}
