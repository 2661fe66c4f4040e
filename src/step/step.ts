import type { Statistic } from "../calibrate/statistic.js";
import type { Graph, ValueName } from "../graph/graph.js";
import type { GraphPatch } from "../graph/patch.js";
import type { ValueTypes } from "../graph/value-types.js";
import type { Range } from "../math/distribution.js";
import type { LayerPlan } from "../quantize/choose-layers.js";
import type { Contradiction, OptionList, OptionsOf, OptionValues } from "./options.js";

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
