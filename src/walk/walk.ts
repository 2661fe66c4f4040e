import type { Block } from "../blocks/blocks.js";
import type { Tap } from "../calibrate/statistic.js";
import type { NamedFeeds } from "../engine/batch.js";
import type { Engine } from "../engine/engine.js";
import { type Graph, readsOf, type ValueName } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { applyPatch } from "../graph/patch.js";
import type { ValueTypes } from "../graph/value-types.js";
import type { OpenSite, OpenStep } from "../step/open-step.js";
import { findCarried } from "./carried.js";
import { groupByDepth } from "./depth.js";
import { type SiteGroup, type SiteRecord, type SolvedSite, skipped, solveSites } from "./solve-sites.js";
import { Streams, tappedBy, type Values } from "./streams.js";

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

export interface WalkResult {
  readonly model: Model;
  /** What became of the sites of each step, in the order in which they were solved. */
  readonly records: readonly (readonly SiteRecord[])[];
  /** Every site that was solved. */
  readonly solved: readonly SolvedSite[];
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
  const carried = findCarried(blocks, current.graph, steps);
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
          const networks = { float, current };
          const result = await solveSites(current.graph, group, (statistics) => streams.collect(networks, statistics));
          const changed = changedValues(current.graph, result.graph);
          current = withGraph(current, result.graph);
          solved.push(...result.solved);
          held = held.filter(({ from, value }) => from === "float" || !changed.has(value));
          await streams.keep(joinValues(block.inputs, carried[index], tappedBy(held)));
          onProgress((index + (i + 1) / (groups.length + 1)) / blocks.length);
        }
        await onBlock(index, solved);
      }
      for (const { step, record } of solved) records[step].push(record);
      all.push(...solved);
      if (index < blocks.length - 1) {
        // From the same values whatever was held, so that a walk that goes on from a checkpoint computes the same.
        await streams.keep(joinValues(block.inputs, carried[index]));
        await streams.advance({ float, current }, joinValues(block.outputs, carried[index + 1]));
      }
      onProgress((index + 1) / blocks.length);
    }
  } finally {
    await streams.close();
  }
  return { model: current, records, solved: all };
}

/** Values of both networks, and others of either. */
function joinValues(both: readonly ValueName[], ...others: readonly Values[]): Values {
  const join = (from: Tap["from"]) => [...both, ...others.flatMap((values) => values[from])];
  return { float: join("float"), current: join("current") };
}

/** The sites of a block in the order in which they are solved. */
function groupSites(block: Block, steps: readonly OpenStep[]): readonly SiteGroup[] {
  const own = new Set(block.nodes.flatMap((node) => node.outputs));
  const sites = steps.flatMap((step, index) =>
    step.sites.filter((site) => own.has(site.value)).map((site) => ({ step: index, site, value: site.value })),
  );
  return groupByDepth(block.nodes, sites).flatMap((depth) =>
    steps.flatMap((_, step) =>
      apart(depth.filter((site) => site.step === step).map(({ site }) => site)).map((own) => ({ step, sites: own })),
    ),
  );
}

/** Sites of a step in groups: those that change the same value have their turn one after the other. */
function apart(sites: readonly OpenSite[]): readonly (readonly OpenSite[])[] {
  const groups: OpenSite[][] = [];
  for (const site of sites) {
    const group = groups.find((own) => own.every(({ value }) => value !== site.value));
    if (group) group.push(site);
    else groups.push([site]);
  }
  return groups;
}

/** Rewrites as an earlier walk did. */
function restore(graph: Graph, steps: readonly OpenStep[], solved: readonly SolvedSite[]): Graph {
  return solved.reduce((restored, { step, value, record, solution }) => {
    const site = steps[step].sites.find((candidate) => candidate.value === value && candidate.label === record.label);
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
