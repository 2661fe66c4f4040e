import { type Engine, type RunFeeds, withSession } from "../engine/engine.js";
import { runAhead } from "../engine/run-ahead.js";
import { withPlace } from "../errors.js";
import { extractGraph } from "../graph/extract.js";
import { buildGraph, type Graph, type Node, type Value, type ValueName } from "../graph/graph.js";
import { type Model, opsetOf, withGraph } from "../graph/model.js";
import { createNameSource } from "../graph/names.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** What runs at once: a sample or a batch. */
export interface NamedRunFeeds {
  readonly id: string;
  readonly feeds: RunFeeds;
}

/**
 * Runs samples through a model and folds them into statistics. The runtime computes equal keys once; each of their
 * statistics takes in the samples.
 *
 * @param nameOf what a tap is called in the model; undefined where the model does not have it
 * @param onBatch called after each batch
 * @throws RecoupError as `Engine.open` and `Session.run`, and `model/not-finite`
 */
export async function collect(
  engine: Engine,
  model: Model,
  statistics: readonly Statistic<unknown>[],
  nameOf: (tap: Tap) => ValueName,
  batches: AsyncIterable<NamedRunFeeds> | Iterable<NamedRunFeeds>,
  onBatch: () => void = () => {},
): Promise<void> {
  const { graph, probes } = attachProbes(model, statistics, nameOf);
  const fetch = graph.outputs.map((output) => output.name);
  const inputs = new Set(graph.inputs.map((input) => input.name));
  await withSession(engine, withGraph(model, graph), { mode: "exact" }, async (session) => {
    const run = ({ id, feeds }: NamedRunFeeds) =>
      session.run(new Map([...feeds].filter(([name]) => inputs.has(name))), fetch).catch((error) => {
        throw withPlace(error, { file: id });
      });
    for await (const [{ id }, { outputs }] of runAhead(batches, run)) {
      try {
        for (const statistic of new Set(statistics)) {
          const names = probes.get(statistic.key)?.outputs ?? [];
          statistic.update(names.map((name) => outputs.get(name) as Tensor));
        }
      } catch (error) {
        throw withPlace(error, { file: id });
      }
      onBatch();
    }
  });
}

/**
 * The part of the model that the statistics look at, with their probes; its outputs are the probes' outputs.
 *
 * @returns the probes by the keys of the statistics
 */
function attachProbes(
  model: Model,
  statistics: readonly Statistic<unknown>[],
  nameOf: (tap: Tap) => ValueName,
): { readonly graph: Graph; readonly probes: ReadonlyMap<string, Probe> } {
  const names = createNameSource(model.graph);
  const byKey = new Map<string, Probe>();
  for (const statistic of statistics) {
    if (byKey.has(statistic.key)) continue;
    byKey.set(statistic.key, statistic.probe(statistic.taps.map(nameOf), names, opsetOf(model)));
  }
  const probes = [...byKey.values()];
  const nodes: Node[] = [...model.graph.nodes, ...probes.flatMap((probe) => probe.nodes)];
  const initializers = new Map([...model.graph.initializers, ...probes.flatMap((probe) => [...probe.initializers])]);
  const outputs = probes.flatMap((probe) => probe.outputs).map((name): Value => ({ name, type: { kind: "other" } }));
  const whole = buildGraph({ ...model.graph, nodes, initializers, outputs, valueInfo: new Map() });
  return { graph: extractGraph(whole, [], outputs), probes: byKey };
}
