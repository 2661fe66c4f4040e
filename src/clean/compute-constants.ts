import { type Engine, withSession } from "../engine/engine.js";
import { extractGraph, nodesBetween } from "../graph/extract.js";
import { type Graph, readsOf, type Value, type ValueName } from "../graph/graph.js";
import { type Model, makeModel, opsetOf } from "../graph/model.js";
import type { ElementType } from "../tensor/element-type.js";
import type { Tensor } from "../tensor/tensor.js";
import { firstVersionWithDefaults } from "./listed-initializers.js";
import { isRefusal } from "./static-types.js";

export interface Computed {
  readonly tensors: ReadonlyMap<ValueName, Tensor>;
  /** Why a value could not be computed. */
  readonly failures: ReadonlyMap<ValueName, string>;
}

/** How often the runtime may still be asked. */
export interface Attempts {
  left: number;
}

/** Constants are computed in groups whose inputs take no more than this, so that memory holds one group of results. */
const groupBytes = 256 * 2 ** 20;

/** What the runtime can hand out. Others cannot leave it, and an int4 output even ends its process. */
const fetchable: readonly ElementType[] = [
  ...(["float32", "float64", "float16", "bool"] as const),
  ...(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"] as const),
];

/**
 * Values that the standard's operators make from constants alone, computed by the runtime in as few sessions as possible. A group that fails is
 * halved until the values that make it fail stand alone.
 */
export async function computeConstants(
  model: Model,
  engine: Engine,
  values: readonly ValueName[],
  attempts: Attempts,
): Promise<Computed> {
  const tensors = new Map<ValueName, Tensor>();
  const failures = new Map<ValueName, string>();
  const open = groupBySize(model.graph, values);
  for (let group = open.pop(); group !== undefined; group = open.pop()) {
    if (attempts.left <= 0) {
      for (const value of group) failures.set(value, "too many computations failed before it");
      continue;
    }
    attempts.left--;
    try {
      const computed = await computeGroup(model, engine, group);
      for (const value of group) {
        const tensor = computed.get(value);
        if (tensor) tensors.set(value, tensor);
        else failures.set(value, "its result is of a type that the runtime does not hand out");
      }
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (group.length === 1) failures.set(group[0], `the runtime did not compute it: ${error.message}`);
      else open.push(group.slice(group.length / 2), group.slice(0, group.length / 2));
    }
  }
  return { tensors, failures };
}

/** Bytes of the constants that a value is computed from. */
export function sourceBytes(graph: Graph, value: ValueName): number {
  const sources = new Set([...nodesBetween(graph, new Set(), [value])].flatMap((node) => [...readsOf(node)]));
  return [...sources].reduce((sum, source) => sum + (graph.initializers.get(source)?.sizeBytes ?? 0), 0);
}

async function computeGroup(
  model: Model,
  engine: Engine,
  values: readonly ValueName[],
): Promise<ReadonlyMap<ValueName, Tensor>> {
  const outputs = values.map((name): Value => ({ name, type: { kind: "other" } }));
  const irVersion = Math.max(model.irVersion, firstVersionWithDefaults);
  const opsets = new Map([["", opsetOf(model)]]);
  const part = makeModel(extractGraph(model.graph, [], outputs), { irVersion, opsets });
  return withSession(engine, part, { mode: "plain" }, async (session) => {
    const wanted = session.outputs.filter(({ type }) => type.kind === "tensor" && fetchable.includes(type.elementType));
    if (wanted.length === 0) return new Map();
    const names = wanted.map((output) => output.name);
    return (await session.run(new Map(), names)).outputs;
  });
}

function groupBySize(graph: Graph, values: readonly ValueName[]): ValueName[][] {
  const groups: ValueName[][] = [];
  let size = Number.POSITIVE_INFINITY;
  for (const value of values) {
    const bytes = sourceBytes(graph, value);
    if (size + bytes > groupBytes) {
      groups.push([]);
      size = 0;
    }
    groups[groups.length - 1].push(value);
    size += bytes;
  }
  return groups;
}
