import type { Block } from "../blocks/blocks.js";
import { collect, type NamedRunFeeds } from "../calibrate/collect.js";
import type { Statistic, Tap } from "../calibrate/statistic.js";
import type { OpenSite, OpenStep } from "../compensate/step.js";
import type { NamedFeeds } from "../engine/batch.js";
import { type Engine, type HeldTensor, withSession } from "../engine/engine.js";
import { extractGraph } from "../graph/extract.js";
import type { Graph, Value, ValueName } from "../graph/graph.js";
import { joinGraphs } from "../graph/join.js";
import { type Model, withGraph } from "../graph/model.js";
import { applyPatch } from "../graph/patch.js";
import type { ValueTypes } from "../graph/value-types.js";
import { groupByDepth } from "./depth.js";

/** The two networks that the walk goes through side by side: values of the same name mean the same in both. */
export interface WalkInput {
  readonly engine: Engine;
  readonly float: Model;
  readonly current: Model;
  readonly types: ValueTypes;
  readonly blocks: readonly Block[];
  readonly batches: readonly NamedFeeds[];
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

/** The tensors of a batch at a cut, in both networks. They stay with the runtime. */
interface Carried {
  readonly id: string;
  readonly float: ReadonlyMap<ValueName, HeldTensor>;
  readonly current: ReadonlyMap<ValueName, HeldTensor>;
}

/** Values of the float network get this prefix where both networks run as one graph. */
const floatPrefix = "float/";

/**
 * Goes through the network block by block. In each: measures the sites of a step against the float network on inputs
 * from the quantized and already compensated network, solves, rewrites, measures what lies deeper with the rewrites in;
 * then carries both streams on to the next block.
 */
export async function walk(input: WalkInput, step: OpenStep, onProgress: OnProgress = () => {}): Promise<WalkResult> {
  const records: SiteRecord[] = step.unusable.map(({ label, reason }) => ({ label, kind: "skipped", reason }));
  let current = input.current;
  let carried = await hold(input.engine, input.batches);
  for (const [index, block] of input.blocks.entries()) {
    const own = new Set(block.nodes.flatMap((node) => node.outputs));
    const sites = step.sites.filter((site) => own.has(site.value));
    const depths = groupByDepth(block.nodes, sites);
    for (const [depth, group] of depths.entries()) {
      const solved = await solveTogether(input, current, block, group, carried);
      current = withGraph(current, solved.graph);
      records.push(...solved.records);
      onProgress((index + (depth + 1) / (depths.length + 1)) / input.blocks.length);
    }
    if (index < input.blocks.length - 1) carried = await carryOn(input, current, block, carried);
    onProgress((index + 1) / input.blocks.length);
  }
  await input.engine.release(carried.flatMap(tensorsOf));
  return { model: current, records };
}

/** Measures, solves and rewrites the sites of one depth, again where a site asks for it. */
async function solveTogether(
  input: WalkInput,
  current: Model,
  block: Block,
  sites: readonly OpenSite[],
  carried: readonly Carried[],
): Promise<{ readonly graph: Graph; readonly records: readonly SiteRecord[] }> {
  const records: SiteRecord[] = [];
  let graph = current.graph;
  let open = sites;
  while (open.length > 0) {
    const statistics = open.map((site) => site.measure());
    await measure(input, withGraph(current, graph), block, statistics, carried);
    const again: OpenSite[] = [];
    for (const site of open) {
      const progress = site.advance(graph);
      if (progress.kind === "again") again.push(site);
      if (progress.kind !== "skipped") graph = applyPatch(graph, progress.patch);
      if (progress.kind === "skipped") records.push({ label: site.label, kind: "skipped", reason: progress.reason });
      if (progress.kind === "solved") {
        const { errorBefore, errorAfter } = progress;
        records.push({ label: site.label, kind: "solved", errorBefore, errorAfter });
      }
    }
    open = again;
  }
  return { graph, records };
}

/** Runs a block of both networks as one graph, so that what is compared never leaves the runtime. */
async function measure(
  input: WalkInput,
  current: Model,
  block: Block,
  statistics: readonly Statistic<unknown>[],
  carried: readonly Carried[],
): Promise<void> {
  const taps = statistics.flatMap((statistic) => statistic.taps);
  const part = (model: Model, from: Tap["from"]) =>
    extractGraph(model.graph, valuesOf(input.types, block.inputs), untyped(tapped(taps, from)));
  const joined = joinGraphs(part(input.float, "float"), floatPrefix, part(current, "current"), new Set());
  const nameOf = (tap: Tap) => (tap.from === "float" ? floatPrefix + tap.value : tap.value);
  await collect(input.engine, withGraph(current, joined), statistics, nameOf, carried.map(joinFeeds));
}

/** The tensors at the end of a block, in both networks. */
async function carryOn(
  input: WalkInput,
  current: Model,
  block: Block,
  carried: readonly Carried[],
): Promise<readonly Carried[]> {
  const inputs = valuesOf(input.types, block.inputs);
  const made = block.outputs.filter((value) => !block.inputs.includes(value));
  const part = (model: Model) => extractGraph(model.graph, inputs, untyped(made));
  const joined = joinGraphs(part(input.float), floatPrefix, part(current), new Set());
  const fed = new Set(joined.inputs.map((value) => value.name));
  const next: Carried[] = [];
  await withSession(input.engine, withGraph(current, joined), { mode: "exact" }, async (session) => {
    const names = joined.outputs.map((output) => output.name);
    for (const batch of carried) {
      const feeds = new Map([...joinFeeds(batch).feeds].filter(([name]) => fed.has(name)));
      const computed = await session.runAndHold(feeds, names);
      const take = (before: ReadonlyMap<ValueName, HeldTensor>, prefix: string) =>
        new Map(
          block.outputs.map((value) => [value, (computed.get(prefix + value) ?? before.get(value)) as HeldTensor]),
        );
      const after = { id: batch.id, float: take(batch.float, floatPrefix), current: take(batch.current, "") };
      const kept = new Set(tensorsOf(after));
      await input.engine.release(tensorsOf(batch).filter((tensor) => !kept.has(tensor)));
      next.push(after);
    }
  });
  return next;
}

/** Hands the batches over to the runtime; both networks start from the same tensors. */
async function hold(engine: Engine, batches: readonly NamedFeeds[]): Promise<readonly Carried[]> {
  const carried: Carried[] = [];
  for (const { id, feeds } of batches) {
    const tensors = await engine.hold(feeds);
    carried.push({ id, float: tensors, current: tensors });
  }
  return carried;
}

function tensorsOf({ float, current }: Carried): readonly HeldTensor[] {
  return [...new Set([...float.values(), ...current.values()])];
}

function joinFeeds({ id, float, current }: Carried): NamedRunFeeds {
  return {
    id,
    feeds: new Map([...[...float].map(([name, tensor]) => [floatPrefix + name, tensor] as const), ...current]),
  };
}

function tapped(taps: readonly Tap[], from: Tap["from"]): readonly ValueName[] {
  return [...new Set(taps.filter((tap) => tap.from === from).map((tap) => tap.value))];
}

function valuesOf(types: ValueTypes, names: readonly ValueName[]): readonly Value[] {
  return names.map((name) => ({ name, type: types.get(name) ?? { kind: "other" } }));
}

function untyped(names: readonly ValueName[]): readonly Value[] {
  return names.map((name) => ({ name, type: { kind: "other" } }));
}
