import type { Statistic, Tap } from "../calibrate/statistic.js";
import type { Graph, ValueName } from "../graph/graph.js";
import type { GraphPatch } from "../graph/patch.js";
import type { ValueTypes } from "../graph/value-types.js";

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
}

/** A place that a step works on. The walk solves the sites of one depth together, deeper ones after the rewrites. */
export interface Site {
  readonly label: string;
  /** The value that the step changes: decides in which block and at which depth the site is solved. */
  readonly value: ValueName;
}

export type Outcome<Solution> =
  /** Done: errors are mean squares of what the step lowers, before and after. */
  | { readonly kind: "solved"; readonly solution: Solution; readonly errorBefore: number; readonly errorAfter: number }
  /** Measure again, with this on trial. */
  | { readonly kind: "refine"; readonly solution: Solution }
  /** Reaches the report, never only a log. */
  | { readonly kind: "skipped"; readonly reason: string };

/** A site where a step cannot do anything, and why. */
export interface UnusableSite {
  readonly label: string;
  readonly reason: string;
}

/**
 * A method that reduces the error of a quantized network, as a change of its graph. `Found` is what its statistic tells,
 * `Solution` what it makes of it.
 */
export interface Step<S extends Site, Found, Solution> {
  /** As recipes and flags write it. */
  readonly name: string;
  /** One line for help. */
  readonly summary: string;
  sites(context: StepContext): { readonly usable: readonly S[]; readonly unusable: readonly UnusableSite[] };
  /**
   * What to measure after some rounds, with the last one's solution on trial: the graph does not change before a site is
   * solved, so the statistic itself puts it in. Looks at the same taps in every round.
   */
  statistic(site: S, rounds: readonly Round<Found, Solution>[]): Statistic<Found>;
  /** Pure. `found` was measured after `rounds`. */
  solve(site: S, found: Found, rounds: readonly Round<Found, Solution>[]): Outcome<Solution>;
  /** Pure. */
  rewrite(graph: Graph, site: S, solution: Solution): GraphPatch;
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
  open(context: StepContext): OpenStep;
}

/** A step at work on one network. */
export interface OpenStep {
  readonly unusable: readonly UnusableSite[];
  readonly sites: readonly OpenSite[];
}

/** One site at work: remembers its rounds. */
export interface OpenSite {
  readonly label: string;
  readonly value: ValueName;
  /** What the statistics of all rounds look at. */
  readonly taps: readonly Tap[];
  /** A fresh statistic for the next round. */
  measure(): Statistic<unknown>;
  /** Solves with what the last statistic found. */
  advance(graph: Graph): SiteProgress;
}

export type SiteProgress =
  | { readonly kind: "again" }
  | { readonly kind: "solved"; readonly patch: GraphPatch; readonly errorBefore: number; readonly errorAfter: number }
  | { readonly kind: "skipped"; readonly reason: string };

export function defineStep<S extends Site, Found, Solution>(step: Step<S, Found, Solution>): AnyStep {
  return {
    name: step.name,
    summary: step.summary,
    open(context) {
      const { usable, unusable } = step.sites(context);
      return { unusable, sites: usable.map((site) => openSite(step, site)) };
    },
  };
}

function openSite<S extends Site, Found, Solution>(step: Step<S, Found, Solution>, site: S): OpenSite {
  const rounds: Round<Found, Solution>[] = [];
  let current: Statistic<Found> | undefined;
  return {
    label: site.label,
    value: site.value,
    taps: step.statistic(site, []).taps,
    measure() {
      current = step.statistic(site, rounds);
      return current;
    },
    advance(graph) {
      if (!current) throw new Error(`${site.label} was solved before it was measured`);
      const found = current.result();
      const outcome = step.solve(site, found, rounds);
      if (outcome.kind === "skipped") return outcome;
      if (outcome.kind === "refine") {
        rounds.push({ found, solution: outcome.solution });
        return { kind: "again" };
      }
      const { solution, errorBefore, errorAfter } = outcome;
      return { kind: "solved", patch: step.rewrite(graph, site, solution), errorBefore, errorAfter };
    },
  };
}
