import { type Graph, type Node, readsOf, type ValueName } from "../graph/graph.js";
import { createNameSource } from "../graph/names.js";
import { isOperator, withInputs } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { limitsOf } from "../operators/limits.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import type { Pair } from "./match.js";

/** A Relu or Clip that was written out. */
interface Written {
  readonly limit: Node;
  /** The nodes that read it, before and after. */
  readonly readers: ReadonlyMap<Node, Node>;
}

export interface LimitedGraph {
  readonly graph: Graph;
  /** The values of the float network behind the limits, by what they are called here. */
  readonly pairs: readonly Pair[];
  /** Limits that the grids do not have. */
  readonly missing: readonly Pair[];
  /** Takes the limits out again of a graph that was changed since, where they still stand before the same grids. */
  restore(graph: Graph): Graph;
}

/**
 * Writes out the Relu and Clip that a quantizer left to the limits of its grids: it changes nothing, and the value behind
 * them is there.
 *
 * @param absorbed pairs with such a node
 */
export function writeLimits(graph: Graph, float: Graph, absorbed: readonly Pair[]): LimitedGraph {
  const writer = new PatchWriter(createNameSource(graph));
  const removed: Node[] = [];
  const written: Written[] = [];
  const pairs: Pair[] = [];
  const missing: Pair[] = [];
  const done = new Set<ValueName>();
  for (const pair of absorbed) {
    const { other, absorbed: limit } = pair;
    const readers = graph.consumers(other);
    const fits =
      readers.length > 0 &&
      readers.every((reader) => reader.inputs[0] === other && isWithin(graph, reader, float, limit));
    if (limit === undefined || !fits || graph.isOutput(other) || done.has(other)) {
      missing.push(pair);
      continue;
    }
    done.add(other);
    const constants = [...readsOf(limit)].slice(1).map((name) => {
      const copy = writer.constant(name, float.constant(name) as Tensor);
      return [name, copy] as const;
    });
    const copies = new Map(constants);
    const value = writer.names.fresh(pair.float);
    const inputs = limit.inputs.map((input, i) => (i === 0 ? other : (copies.get(input) ?? input)));
    const node: Node = { ...limit, name: "", inputs, outputs: [value], origin: undefined };
    writer.add(node);
    const after = new Map(
      readers.map((reader) => [reader, withInputs(reader, [value, ...reader.inputs.slice(1)])] as const),
    );
    for (const [before, now] of after) {
      removed.push(before);
      writer.add(now);
    }
    written.push({ limit: node, readers: after });
    pairs.push({ float: pair.float, other: value });
  }
  const limited = applyPatch(graph, writer.finish("limits of grids", { remove: removed }));
  return { graph: limited, pairs, missing, restore: (changed) => restore(changed, written) };
}

function restore(graph: Graph, written: readonly Written[]): Graph {
  const present = new Set(graph.nodes);
  const remove: Node[] = [];
  const add: Node[] = [];
  for (const { limit, readers } of written) {
    const now = [...readers.values()];
    const isSame = present.has(limit) && now.every((node) => present.has(node));
    // Grids may have been fitted again: the limit stays where they now reach beyond it.
    const isIdle = now.every((node) => isWithin(graph, node, graph, limit));
    if (!isSame || !isIdle || graph.consumers(limit.outputs[0]).length !== now.length) continue;
    remove.push(limit, ...now);
    add.push(...readers.keys());
  }
  return applyPatch(graph, { label: "limits of grids", remove, add });
}

/** Whether a node rounds to a grid that does not reach beyond the limits of a Relu or Clip. */
function isWithin(graph: Graph, node: Node, limits: Graph, limit: Node | undefined): boolean {
  const range = isOperator(node, "QuantizeLinear") ? gridLimits(graph, node) : undefined;
  const allowed = limit && limitsOf(limits, limit);
  if (range === undefined || allowed === undefined) return false;
  const half = range.scale / 2;
  return range.low > allowed.low - half && range.high < allowed.high + half;
}

/** The ends of the grid that a node rounds to; undefined where it has one for each channel. */
export function gridLimits(
  graph: Graph,
  quantize: Node,
): { readonly low: number; readonly high: number; readonly scale: number } | undefined {
  const scale = graph.constant(quantize.inputs[1]);
  const zeroPoint = graph.constant(quantize.inputs[2] ?? "");
  if (scale === undefined || zeroPoint === undefined) return undefined;
  const [first, ...others] = float32Values(scale);
  const ends = { uint8: [0, 255], int8: [-128, 127], uint16: [0, 65535], int16: [-32768, 32767] }[
    zeroPoint.type as "int8"
  ];
  if (others.length > 0 || ends === undefined) return undefined;
  const [zero] = integerValues(zeroPoint);
  return { low: (ends[0] - zero) * first, high: (ends[1] - zero) * first, scale: first };
}
