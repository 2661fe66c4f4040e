import type { OpenSite, OpenStep } from "../step/open-step.js";

/** A site that was solved or stood in for. */
export interface Solving {
  /** In any unit. */
  readonly work: number;
  readonly elapsedMs: number;
}

/**
 * Solves some of the sites that take long, looks at the time, and has the others stood in for: what solving takes depends
 * on weights and not on samples, and a rehearsal must not take as long as the run.
 */
export class SolveClock {
  readonly #onSolved: () => void;
  readonly #solved: Solving[] = [];
  readonly #skipped: Solving[] = [];

  /** @param onSolved called when a site has been solved and what that took in memory is still there */
  constructor(onSolved: () => void) {
    this.#onSolved = onSolved;
  }

  /** What solving the other sites would take besides, in milliseconds. */
  get skippedMs(): number {
    return skippedMs(this.#solved, this.#skipped);
  }

  readonly replaceSteps = (steps: readonly OpenStep[]): readonly OpenStep[] => {
    const costly = steps.flatMap(({ sites }) => sites).filter(({ standIn }) => standIn !== undefined);
    const chosen = sitesToSolve(costly.map(({ standIn }) => standIn?.work ?? 0));
    const solved = new Set(costly.filter((_, i) => chosen.has(i)));
    return steps.map((step) => ({ ...step, sites: step.sites.map((site) => this.#replace(site, solved.has(site))) }));
  };

  #replace(site: OpenSite, isSolved: boolean): OpenSite {
    const { standIn } = site;
    if (standIn === undefined) return site;
    const { work } = standIn;
    const { advance } = isSolved ? site : standIn;
    return {
      ...site,
      advance: (graph) => {
        const start = performance.now();
        const progress = advance(graph);
        (isSolved ? this.#solved : this.#skipped).push({ work, elapsedMs: performance.now() - start });
        if (isSolved) this.#onSolved();
        return progress;
      },
    };
  }
}

/**
 * How much of the work is done. So much that one of the large layers of a small network is among it: by small ones alone,
 * which the program has hardly warmed up for, the others seem to take up to three times as long as they do.
 */
const workDone = 0.25;

/**
 * Sites to solve so that the time of the others can be told: the largest whose work is together a small share of all. Of
 * sites with the same work it is the last one, for by then the program is warm.
 *
 * @param works of all sites
 * @returns indices, at least one where there are sites
 */
export function sitesToSolve(works: readonly number[]): ReadonlySet<number> {
  const last = new Map(works.map((work, i) => [work, i] as const));
  const descending = [...last].sort(([a], [b]) => b - a);
  const most = workDone * works.reduce((sum, work) => sum + work, 0);
  const chosen = new Set<number>();
  let done = 0;
  for (const [work, i] of descending) {
    if (done + work > most) continue;
    done += work;
    chosen.add(i);
  }
  const smallest = descending.at(-1);
  if (chosen.size === 0 && smallest !== undefined) chosen.add(smallest[1]);
  return chosen;
}

/**
 * What solving the other sites takes besides what standing in for them took, in milliseconds: in proportion to their work.
 * The first site that is solved pays for the warming up of the program, which is done once.
 */
export function skippedMs(solved: readonly Solving[], skipped: readonly Solving[]): number {
  const sumOf = (list: readonly Solving[], field: keyof Solving) => list.reduce((sum, one) => sum + one[field], 0);
  const warm = solved.length > 1 ? solved.slice(1) : solved;
  const work = sumOf(warm, "work");
  const msPerWork = work > 0 ? sumOf(warm, "elapsedMs") / work : 0;
  return msPerWork * sumOf(skipped, "work") - sumOf(skipped, "elapsedMs");
}
