import type { Block } from "../blocks/blocks.js";
import type { OpenSite, OpenStep } from "../compensate/step.js";
import type { NamedFeeds } from "../engine/batch.js";
import type { Engine } from "../engine/engine.js";
import type { Graph } from "../graph/graph.js";
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
  readonly batches: readonly NamedFeeds[];
  /** What may be held besides the tensors at a cut; a gigabyte where nothing is said. */
  readonly mostHeldBytes?: number;
}

/** What became of a site. */
export type SiteRecord =
  | {
      readonly label: string;
      readonly kind: "solved";
      readonly errorBefore: number;
      readonly errorAfter: number;
    }
  | { readonly label: string; readonly kind: "skipped"; readonly reason: string };

export interface WalkResult {
  readonly model: Model;
  readonly records: readonly SiteRecord[];
}

/** Called with the share of the walk that is done, from 0 to 1. */
export type OnProgress = (done: number) => void;

/**
 * Goes through the network block by block. In each: measures the sites of a step against the float network on inputs
 * from the quantized and already compensated network, solves, rewrites, measures what lies deeper with the rewrites in;
 * then carries both streams on to the next block.
 */
export async function walk(input: WalkInput, step: OpenStep, onProgress: OnProgress = () => {}): Promise<WalkResult> {
  const { float, blocks, mostHeldBytes = 1e9 } = input;
  const records: SiteRecord[] = step.unusable.map(({ label, reason }) => ({ label, kind: "skipped", reason }));
  let current = input.current;
  const streams = await Streams.open(input.engine, { float, current }, input.types, input.batches);
  try {
    for (const [index, block] of blocks.entries()) {
      const own = new Set(block.nodes.flatMap((node) => node.outputs));
      const sites = step.sites.filter((site) => own.has(site.value));
      const depths = groupByDepth(block.nodes, sites);
      for (const [depth, group] of depths.entries()) {
        const taps = tappedBy(group.flatMap((site) => site.taps));
        // Then another round at these sites costs little, and the float network is computed once.
        await streams.hold({ float, current }, taps, mostHeldBytes);
        const solved = await solveTogether({ float, current }, group, streams);
        current = withGraph(current, solved.graph);
        records.push(...solved.records);
        await streams.keep({ float: [...block.inputs, ...taps.float], current: block.inputs });
        onProgress((index + (depth + 1) / (depths.length + 1)) / blocks.length);
      }
      if (index < blocks.length - 1) {
        await streams.advance({ float, current }, { float: block.outputs, current: block.outputs });
      }
      onProgress((index + 1) / blocks.length);
    }
  } finally {
    await streams.close();
  }
  return { model: current, records };
}

/** Measures, solves and rewrites the sites of one depth; measures again those that ask for it. */
async function solveTogether(
  networks: Networks,
  sites: readonly OpenSite[],
  streams: Streams,
): Promise<{ readonly graph: Graph; readonly records: readonly SiteRecord[] }> {
  const records: SiteRecord[] = [];
  let { graph } = networks.current;
  let open = sites;
  while (open.length > 0) {
    const statistics = open.map((site) => site.measure());
    await streams.collect(networks, statistics);
    const again: OpenSite[] = [];
    for (const site of open) {
      const { label } = site;
      const progress = site.advance(graph);
      if (progress.kind === "again") again.push(site);
      else if (progress.kind === "skipped") records.push({ label, kind: "skipped", reason: progress.reason });
      else {
        const { patch, errorBefore, errorAfter } = progress;
        graph = applyPatch(graph, patch);
        records.push({ label, kind: "solved", errorBefore, errorAfter });
      }
    }
    open = again;
  }
  return { graph, records };
}
