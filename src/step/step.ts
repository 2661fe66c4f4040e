import type { Share, Statistic, Tap } from "../calibrate/statistic.js";
import type { Graph, ValueName } from "../graph/graph.js";
import type { GraphPatch } from "../graph/patch.js";
import type { ValueTypes } from "../graph/value-types.js";
import type { Range } from "../math/distribution.js";
import type { LayerPlan } from "../quantize/choose-layers.js";
import { type Contradiction, fillOptions, type OptionList, type OptionsOf, type OptionValues } from "./options.js";

/** A quantized layer as steps see it: the value it computes has the same name in the float network. */
export interface SiteLayer {
  /** What a person calls the layer. */
  readonly label: string;
  readonly opType: string;
  readonly output: ValueName;
  /** Axis of the output channels; counted from the end where negative. */
  readonly outputAxis: number;
}

/** What a step finds in a network. */
export interface StepContext {
  /** The clean float network: nothing in it changes during the walk. */
  readonly float: Graph;
  readonly types: ValueTypes;
  readonly layers: readonly SiteLayer[];
  /** The formats that layers of the float network get; none where another tool has quantized it. */
  readonly plans: readonly LayerPlan[];
  /** The network that the step changes, as it is before the walk. */
  readonly current: Graph;
  /** How many batches the walk runs. */
  readonly batches: number;
  /**
   * Whether what these leave in doubt is kept: where they stand for the many samples of the run to come, and where the network's
   * outputs on other samples decide in the end.
   */
  readonly keepsDoubtful?: boolean;
}

/** A place that a step works on. The walk solves the sites of one depth together, deeper ones after the rewrites. */
export interface Site {
  readonly label: string;
  /** The value that the step changes: decides in which block and at which depth the site is solved. */
  readonly value: ValueName;
}

/** What a step achieved at a site. */
export interface Solved {
  /** Mean square of what the step lowers, where its remark says nothing else. */
  readonly errorBefore: number;
  readonly errorAfter: number;
  /** The form that the step took there, of a step whose forms have names. */
  readonly form?: string;
  /** What a user should know of it. */
  readonly remark?: string;
}

export type Outcome<Solution> =
  | (Solved & { readonly kind: "solved"; readonly solution: Solution })
  /** Measure again, with this on trial. */
  | { readonly kind: "refine"; readonly solution: Solution }
  /** Reaches the report, never only a log. */
  | { readonly kind: "skipped"; readonly reason: string };

/** A site where a step cannot do anything, and why. */
export interface UnusableSite {
  readonly label: string;
  readonly reason: string;
}

/** What statistics tell, one after the other. */
export type Findings = readonly unknown[];

/** A statistic for each finding. */
export type StatisticsOf<Found extends Findings> = { readonly [I in keyof Found]: Statistic<Found[I]> };

/**
 * A method as a change of a graph: one that reduces the error of a quantized network, or one that prepares a float network
 * and keeps its function. `Found` is what its statistics tell, `Solution` what it makes of it: plain data, so that a
 * checkpoint can hold it.
 */
export interface Step<Options extends OptionList, S extends Site, Found extends Findings, Solution> {
  /** As recipes and flags write it. */
  readonly name: string;
  /** One line for help. */
  readonly summary: string;
  /**
   * Whether a run tries, on samples held back, what the network is without the step, and leaves it out where that is better:
   * for steps that cost bytes or time when the model runs, or that can do harm.
   */
  readonly isTried?: boolean;
  /** Of a step that is tried: what else is tried in its place, as far as its options leave that open. */
  alternatives?(options: OptionsOf<Options>): readonly OptionValues[];
  /**
   * Of a step that is tried: what it has to be better than at the outputs as well, as far as its options leave that open.
   *
   * @param forms the forms that it took somewhere; any, where that is not known yet
   */
  simpler?(options: OptionsOf<Options>, forms?: ReadonlySet<string>): readonly OptionValues[];
  /** Of a compensation: whether the model has operators more by it, besides an Add where a layer has no bias of its own. */
  addsOperators?(options: OptionsOf<Options>): boolean;
  /** What becomes of sites that are solved, in words: "layers compensated". */
  readonly outcome: string;
  /** Whether the values that it changes get other ranges by it: then their grids are looked for again. */
  readonly movesRanges?: boolean;
  /** What a user may set; sites carry what solving them needs to know of it. */
  readonly options: Options;
  /** Of options that exclude each other. */
  contradiction?(options: OptionsOf<Options>): Contradiction | undefined;
  sites(
    context: StepContext,
    options: OptionsOf<Options>,
  ): { readonly usable: readonly S[]; readonly unusable: readonly UnusableSite[] };
  /**
   * What to measure after some rounds, with the last one's solution on trial: the graph does not change before a site is
   * solved, so a statistic itself puts it in. Looks at the same taps in every round.
   *
   * @param graph the network that the step changes, as it is now
   */
  statistics(site: S, rounds: readonly Round<Found, Solution>[], graph: Graph): StatisticsOf<Found>;
  /** Pure. `found` was measured after `rounds`. */
  solve(site: S, found: Found, rounds: readonly Round<Found, Solution>[]): Outcome<Solution>;
  /** Pure. */
  rewrite(graph: Graph, site: S, solution: Solution): GraphPatch;
  /**
   * For preparations that know best where the grids of weights should end: the ends for each row of a weight, or one pair
   * for the whole of it, by the names of the weights after the rewrite.
   *
   * @param known what the sites before have said
   */
  weightRanges?(
    site: S,
    solution: Solution,
    known: ReadonlyMap<ValueName, readonly Range[]>,
  ): ReadonlyMap<ValueName, readonly Range[]>;
  /**
   * For steps that decide about all sites together: what to look at before anything is changed. Nothing where the options
   * leave each site to itself.
   */
  survey?(sites: readonly S[]): Survey<S, Found> | undefined;
  /** For steps whose solving takes long: a rehearsal solves some sites and tells from them what the others would take. */
  readonly standIn?: StandIn<S, Solution>;
}

/** A look at all sites of a network of which nothing has been changed. */
export interface Survey<S extends Site, Found extends Findings> {
  /** Told once of each site that can be measured, with what its first statistics found. */
  look(site: S, found: Found): void;
  /** The sites as they are to be solved. */
  settle(): readonly S[];
}

/** What takes the place of solving a site. */
export interface StandIn<S extends Site, Solution> {
  /** What solving the site takes, in any unit; it depends on shapes and not on samples. */
  work(site: S): number;
  /** A solution of the same form that takes little. */
  solution(site: S): Solution;
}

/** What was found, and the solution that it led to. */
export interface Round<Found, Solution> {
  readonly found: Found;
  readonly solution: Solution;
}

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
