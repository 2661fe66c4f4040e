import type { Block } from "../blocks/blocks.js";
import type { Share, Statistic, Tap } from "../calibrate/statistic.js";
import type { OpenSite, OpenStep, Solved } from "../compensate/step.js";
import type { NamedFeeds } from "../engine/batch.js";
import type { Engine } from "../engine/engine.js";
import { type Graph, readsOf, type ValueName } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { applyPatch } from "../graph/patch.js";
import type { ValueTypes } from "../graph/value-types.js";
import { groupByDepth } from "./depth.js";
import { type Networks, Streams, tappedBy } from "./streams.js";

/** The two networks that the walk goes through side by side: values of the same name mean the same in both. */
export interface WalkInput {
  readonly engine: Engine;
  readonly float: Model;
  readonly current: Model;
  readonly types: ValueTypes;
  readonly blocks: readonly Block[];
  readonly batches: AsyncIterable<NamedFeeds> | Iterable<NamedFeeds>;
  /** What may be held besides the tensors at a cut; `mostHeldBeside` where nothing is said. */
  readonly mostHeldBytes?: number;
}

/** Bytes that are held besides the tensors at a cut: what does not fit is computed again for each look at it. */
export const mostHeldBeside = 1e9;

/** What became of a site. */
export type SiteRecord =
  | (Solved & { readonly label: string; readonly kind: "solved" })
  | { readonly label: string; readonly kind: "skipped"; readonly reason: string };

export interface WalkResult {
  readonly model: Model;
  /** What became of the sites of each step, in the order in which they were solved. */
  readonly records: readonly (readonly SiteRecord[])[];
  /** Every site that was solved. */
  readonly solved: readonly SolvedSite[];
}

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

/** What the walk tells while it goes on, and what it goes on from. */
export interface WalkOptions {
  /** Called with the share of the walk that is done, from 0 to 1. */
  readonly onProgress?: (done: number) => void;
  /** The sites of the first blocks, as an earlier walk over the same networks and samples solved them. */
  readonly finished?: readonly (readonly SolvedSite[])[];
  /** Called with the sites of each block when it is finished; the walk waits for it. */
  readonly onBlock?: (index: number, solved: readonly SolvedSite[]) => void | Promise<void>;
}

/**
 * Goes through the network block by block. In each: measures the sites of all steps against the float network on inputs
 * from the quantized and already compensated network, solves, rewrites, measures what lies deeper with the rewrites in;
 * then carries both streams on to the next block. Where sites of several steps lie at the same depth, the steps have their
 * turn one after the other.
 */
export async function walk(
  input: WalkInput,
  steps: readonly OpenStep[],
  { onProgress = () => {}, finished = [], onBlock = () => {} }: WalkOptions = {},
): Promise<WalkResult> {
  const { float, blocks, mostHeldBytes = mostHeldBeside } = input;
  const records = steps.map(({ unusable }) => unusable.map(({ label, reason }) => skipped(label, reason)));
  const all: SolvedSite[] = [];
  let current = input.current;
  const streams = await Streams.open(input.engine, { float, current }, input.types, input.batches);
  try {
    for (const [index, block] of blocks.entries()) {
      const solved: SolvedSite[] = [];
      const restored = finished[index];
      if (restored !== undefined) {
        current = withGraph(current, restore(current.graph, steps, restored));
        solved.push(...restored);
      } else {
        const groups = groupSites(block, steps);
        // Values of the current network stay what they are until something above them is rewritten.
        let held: readonly Tap[] = [];
        for (const [i, group] of groups.entries()) {
          held = [...held, ...group.sites.flatMap((site) => site.taps)];
          // Then another round at these sites costs little, and the float network is computed once.
          await streams.hold({ float, current }, tappedBy(held), mostHeldBytes);
          const result = await solveTogether({ float, current }, group, streams);
          const changed = changedValues(current.graph, result.graph);
          current = withGraph(current, result.graph);
          solved.push(...result.solved);
          held = held.filter(({ from, value }) => from === "float" || !changed.has(value));
          const kept = tappedBy(held);
          await streams.keep({
            float: [...block.inputs, ...kept.float],
            current: [...block.inputs, ...kept.current],
          });
          onProgress((index + (i + 1) / (groups.length + 1)) / blocks.length);
        }
        await onBlock(index, solved);
      }
      for (const { step, record } of solved) records[step].push(record);
      all.push(...solved);
      if (index < blocks.length - 1) {
        // From the same values whatever was held, so that a walk that goes on from a checkpoint computes the same.
        await streams.keep({ float: block.inputs, current: block.inputs });
        await streams.advance({ float, current }, { float: block.outputs, current: block.outputs });
      }
      onProgress((index + 1) / blocks.length);
    }
  } finally {
    await streams.close();
  }
  return { model: current, records, solved: all };
}

/** Sites of one step that do not see each other's changes. */
interface SiteGroup {
  readonly step: number;
  readonly sites: readonly OpenSite[];
}

/** The sites of a block in the order in which they are solved. */
function groupSites(block: Block, steps: readonly OpenStep[]): readonly SiteGroup[] {
  const own = new Set(block.nodes.flatMap((node) => node.outputs));
  const sites = steps.flatMap((step, index) =>
    step.sites.filter((site) => own.has(site.value)).map((site) => ({ step: index, site, value: site.value })),
  );
  return groupByDepth(block.nodes, sites).flatMap((depth) =>
    steps
      .map((_, step) => ({ step, sites: depth.filter((site) => site.step === step).map(({ site }) => site) }))
      .filter((group) => group.sites.length > 0),
  );
}

/** Measures, solves and rewrites sites; measures again those that ask for it. */
async function solveTogether(
  networks: Networks,
  { step, sites }: SiteGroup,
  streams: Streams,
): Promise<{ readonly graph: Graph; readonly solved: readonly SolvedSite[] }> {
  const solved: SolvedSite[] = [];
  let { graph } = networks.current;
  let open = sites;
  while (open.length > 0) {
    const statistics = new Map<string, Statistic<unknown>>();
    const share: Share = (statistic) => {
      const known = statistics.get(statistic.key) ?? statistic;
      statistics.set(statistic.key, known);
      return known as typeof statistic;
    };
    for (const site of open) site.measure(share);
    await streams.collect(networks, [...statistics.values()]);
    const again: OpenSite[] = [];
    for (const site of open) {
      const { label, value } = site;
      const progress = site.advance(graph);
      if (progress.kind === "again") again.push(site);
      else if (progress.kind === "skipped") {
        solved.push({ step, value, record: skipped(label, progress.reason), solution: undefined });
      } else {
        const { patch, solution, ...record } = progress;
        graph = applyPatch(graph, patch);
        solved.push({ step, value, record: { label, ...record }, solution });
      }
    }
    open = again;
  }
  return { graph, solved };
}

/** Rewrites as an earlier walk did. */
function restore(graph: Graph, steps: readonly OpenStep[], solved: readonly SolvedSite[]): Graph {
  return solved.reduce((restored, { step, value, record, solution }) => {
    const site = steps[step].sites.find((candidate) => candidate.value === value);
    return record.kind === "skipped" || site === undefined
      ? restored
      : applyPatch(restored, site.restore(restored, solution));
  }, graph);
}

/** What is computed otherwise after some rewrites: a weight or a grid that several nodes share changes at all of them. */
function changedValues(before: Graph, after: Graph): ReadonlySet<ValueName> {
  const known = new Set(before.nodes);
  const constants = [...after.initializers].filter(([name, tensor]) => before.initializers.get(name) !== tensor);
  const changed = new Set(constants.map(([name]) => name));
  for (const node of after.nodes) {
    if (known.has(node) && ![...readsOf(node)].some((value) => changed.has(value))) continue;
    for (const output of node.outputs) changed.add(output);
  }
  return changed;
}

function skipped(label: string, reason: string): SiteRecord {
  return { label, kind: "skipped", reason };
}
