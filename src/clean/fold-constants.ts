import { nodesBetween } from "../graph/extract.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { hasOneResult, labelOf } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import type { Tensor } from "../tensor/tensor.js";
import { computeConstants, sourceBytes } from "./compute-constants.js";
import { constantTensor } from "./constant-tensor.js";
import { findFoldable } from "./foldable-nodes.js";
import type { CleanContext, CleanPass, PassResult } from "./pass.js";

/** A result up to this size in bytes replaces its node, whatever it was made from. */
const smallResultBytes = 64 * 1024;

/** A larger result replaces its node if it takes at most so many times the bytes of the constants it was made from. */
const largestGrowth = 2;

/** Sessions that a whole pass may open; only models that the runtime cannot compute need more than a few. */
const largestAttempts = 64;

type Skipped = PassResult["skipped"][number];

/**
 * Turns `Constant` nodes into initializers, and computes once what would be computed in every run alike. Values keep
 * their names. Nodes that make much out of little, such as `Expand`, stay: their result would only bloat the file.
 */
export const foldConstants: CleanPass = {
  name: "fold-constants",
  async run(model, context): Promise<PassResult> {
    const [inlined, constants] = inlineConstants(model);
    const { folded, nodes, skipped } = await foldNodes(inlined, context);
    const changed = [
      ...constants.map((node) => `${labelOf(node)}: Constant became an initializer`),
      ...[...nodes].map((node) => `${labelOf(node)}: ${node.opType} of constants was computed`),
    ];
    if (nodes.size === 0) return { model: inlined, changed, skipped };
    const graph = applyPatch(inlined.graph, { label: foldConstants.name, remove: [...nodes], initializers: folded });
    return { model: withGraph(inlined, graph), changed, skipped };
  },
};

function inlineConstants(model: Model): [Model, readonly Node[]] {
  const { graph } = model;
  const found = graph.nodes.flatMap((node) => {
    const isInner = hasOneResult(graph, node) && !graph.isOutput(node.outputs[0]);
    const tensor = isInner ? constantTensor(node) : undefined;
    return tensor === undefined ? [] : [{ node, tensor }];
  });
  const nodes = found.map(({ node }) => node);
  if (nodes.length === 0) return [model, nodes];
  const initializers = new Map(found.map(({ node, tensor }) => [node.outputs[0], tensor] as const));
  return [withGraph(model, applyPatch(graph, { label: foldConstants.name, remove: nodes, initializers })), nodes];
}

interface Folding {
  /** The values that the rest of the graph reads, computed. */
  readonly folded: ReadonlyMap<ValueName, Tensor>;
  /** The nodes that are no longer needed. */
  readonly nodes: ReadonlySet<Node>;
  readonly skipped: readonly Skipped[];
}

/** A value that cannot be had gives up its node, whose inputs are then what is computed instead. */
async function foldNodes(model: Model, { engine }: CleanContext): Promise<Folding> {
  const { graph } = model;
  const nodes = new Set(findFoldable(model));
  const folded = new Map<ValueName, Tensor>();
  const skipped: Skipped[] = [];
  const attempts = { left: largestAttempts };
  for (;;) {
    const wanted = frontierOf(graph, nodes).filter((value) => !folded.has(value));
    if (wanted.length === 0) return { folded: valuesOf(graph, nodes, folded), nodes, skipped };
    const { tensors, failures } = await computeConstants(model, engine, wanted, attempts);
    const rejected = new Map(failures);
    for (const [value, tensor] of tensors) {
      const reason = growthOf(graph, value, tensor);
      if (reason) rejected.set(value, reason);
      else folded.set(value, tensor);
    }
    for (const [value, reason] of rejected) {
      const node = graph.producer(value) as Node;
      if (nodes.delete(node)) skipped.push({ node: labelOf(node), reason });
    }
    if (attempts.left <= 0) for (const node of nodesBetween(graph, new Set(), [...rejected.keys()])) nodes.delete(node);
  }
}

/** Without what was computed of nodes that were given up later: those stay and define their values themselves. */
function valuesOf(
  graph: Graph,
  nodes: ReadonlySet<Node>,
  computed: ReadonlyMap<ValueName, Tensor>,
): ReadonlyMap<ValueName, Tensor> {
  return new Map([...computed].filter(([value]) => nodes.has(graph.producer(value) as Node)));
}

/** The values of some nodes that other nodes read. */
function frontierOf(graph: Graph, nodes: ReadonlySet<Node>): readonly ValueName[] {
  return [...nodes]
    .flatMap((node) => node.outputs)
    .filter((value) => graph.consumers(value).some((reader) => !nodes.has(reader)));
}

function growthOf(graph: Graph, value: ValueName, { sizeBytes }: Tensor): string | undefined {
  if (sizeBytes <= smallResultBytes) return undefined;
  const source = sourceBytes(graph, value);
  if (sizeBytes <= largestGrowth * source) return undefined;
  return `its result takes ${sizeBytes} bytes, what it is made from ${source}`;
}
