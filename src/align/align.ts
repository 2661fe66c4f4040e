import { collect } from "../calibrate/collect.js";
import { SignalNoiseStatistic } from "../calibrate/signal-noise.js";
import type { Tap } from "../calibrate/statistic.js";
import { cleanModel } from "../clean/index.js";
import type { NamedFeeds } from "../engine/batch.js";
import type { Engine } from "../engine/engine.js";
import { sqnrDb } from "../evaluate/outputs.js";
import { fedInputs } from "../graph/fed-inputs.js";
import { fixedValues } from "../graph/fixed-values.js";
import { buildGraph, type Graph, type ValueName } from "../graph/graph.js";
import { joinGraphs } from "../graph/join.js";
import { type Model, withGraph } from "../graph/model.js";
import { freePrefix } from "../graph/names.js";
import { labelOf } from "../graph/node.js";
import { elementTypeOf, type ValueTypes } from "../graph/value-types.js";
import { isFloatType } from "../tensor/element-type.js";
import { floatTwin } from "./float-twin.js";
import { matchGraphs, type Pair } from "./match.js";
import { openOperators } from "./open-operators.js";
import { renameValues } from "./rename-values.js";
import { writeLimits } from "./write-limits.js";

/** A value of the float network that the quantized one does not have, or not in numbers, and why. */
export interface Unaligned {
  readonly label: string;
  readonly reason: string;
}

export interface Alignment {
  /** The quantized network with its operators on codes opened, its values under the names that they have in the float network. */
  readonly model: Model;
  /** The values that both networks have, inputs included. */
  readonly values: ReadonlySet<ValueName>;
  readonly unaligned: readonly Unaligned[];
  /** A network that was changed since, as the quantized one was written: its own names, operators and order. */
  restore(graph: Graph): Graph;
}

export interface AlignTask {
  readonly engine: Engine;
  /** Cleaned. */
  readonly float: Model;
  readonly types: ValueTypes;
  /** Of the same version of the standard's operators. */
  readonly quantized: Model;
  /** A few samples, on which pairs of values are tried. */
  readonly batches: readonly NamedFeeds[];
}

/** Below this, in decibels, the error of a value is as large as the value: then it is another one. */
const leastSignalDb = 1;

/**
 * Finds for every value of a float network the one that means the same in a network that another tool quantized: by the
 * structure of both, by weights, by names; and tries every pair on samples.
 *
 * @throws RecoupError as `cleanModel` and `collect`
 */
export async function alignModels({ engine, float, types, quantized, batches }: AlignTask): Promise<Alignment> {
  const opened = openOperators(quantized.graph);
  const twin = await cleanModel(withGraph(quantized, floatTwin(opened.graph)), { engine });
  const match = matchGraphs(float.graph, twin.model.graph, types);
  const isThere = ({ other }: Pair) => opened.graph.producer(other) !== undefined;
  const absorbed = match.pairs.filter((pair) => pair.absorbed !== undefined && isThere(pair));
  const limited = writeLimits(opened.graph, float.graph, absorbed);
  const plain = match.pairs.filter((pair) => pair.absorbed === undefined && isThere(pair));
  const usable = [...plain, ...limited.pairs].filter(({ float: value, other }) =>
    canBeCalled(opened.graph, other, value),
  );
  const renamed = renameValues(limited.graph, new Map(usable.map(({ float: value, other }) => [other, value])));
  const current = withGraph(quantized, renamed.graph);
  const found = usable.map(({ float: value }) => value);
  const signals = await measureSignals(engine, float, current, found, batches);
  const values = new Set(fedInputs(float.graph).map(({ name }) => name));
  const unaligned: Unaligned[] = [...opened.closed];
  for (const [value, db] of signals) {
    const isExact = !isFloatType(elementTypeOf(types, value) ?? "int64");
    const node = float.graph.producer(value);
    if (db >= (isExact ? 100 : leastSignalDb)) values.add(value);
    else if (node)
      unaligned.push({ label: labelOf(node), reason: `what seemed to be its output is not: ${describe(db)}` });
  }
  const fixed = fixedValues(float.graph);
  // What is computed from constants alone may be a constant elsewhere.
  const missing = match.unmatched.filter(({ node }) => !node.outputs.every((value) => fixed.has(value)));
  for (const { node, reason } of missing) unaligned.push({ label: labelOf(node), reason });
  for (const { absorbed: node } of limited.missing) {
    if (node)
      unaligned.push({ label: labelOf(node), reason: `the grid behind it has other limits than ${node.opType}` });
  }
  const restore = (graph: Graph) => {
    return inOrderOf(quantized.graph, opened.close(limited.restore(renamed.restore(graph))));
  };
  return { model: current, values, unaligned, restore };
}

function describe(db: number): string {
  return Number.isFinite(db) ? `signal to error ${db.toFixed(1)} dB on the first samples` : "its error is no number";
}

/** Inputs and outputs of a model keep their names. */
function canBeCalled(graph: Graph, value: ValueName, name: ValueName): boolean {
  if (value === name) return true;
  return !graph.isOutput(value) && !graph.isOutput(name) && !graph.isInput(name);
}

/** Signal to error in decibels of values that both networks have, in one run of both. */
async function measureSignals(
  engine: Engine,
  float: Model,
  current: Model,
  values: readonly ValueName[],
  batches: readonly NamedFeeds[],
): Promise<ReadonlyMap<ValueName, number>> {
  const statistics = values.map((value) => new SignalNoiseStatistic(value));
  if (statistics.length === 0) return new Map();
  const prefix = freePrefix([float.graph, current.graph], "float/");
  const fed = new Set(fedInputs(float.graph).map(({ name }) => name));
  const functions = new Map([...float.functions, ...current.functions]);
  const joined = { ...withGraph(current, joinGraphs(float.graph, prefix, current.graph, fed)), functions };
  const nameOf = ({ from, value }: Tap) => (from === "float" && !fed.has(value) ? prefix + value : value);
  await collect(engine, joined, statistics, nameOf, batches);
  return new Map(values.map((value, i) => [value, sqnrDb(statistics[i].result())]));
}

/** The nodes of a graph in the order of another that most of them are from. */
function inOrderOf(original: Graph, graph: Graph): Graph {
  const places = new Map(original.nodes.map((node, i) => [node, i] as const));
  let last = -1;
  const placed = graph.nodes.map((node) => {
    last = places.get(node) ?? last;
    return { node, place: last };
  });
  const nodes = placed.sort((a, b) => a.place - b.place).map(({ node }) => node);
  return buildGraph({ ...graph, nodes });
}
