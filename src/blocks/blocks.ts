import { type Graph, type Node, readsOf, type ValueName } from "../graph/graph.js";
import { elementTypeOf, type ValueTypes } from "../graph/value-types.js";
import { isFloatType } from "../tensor/element-type.js";

/** A run of nodes between two places where few tensors are live. */
export interface Block {
  readonly nodes: readonly Node[];
  /** What the block and everything behind it read of everything before it, inputs of the graph included. */
  readonly inputs: readonly ValueName[];
  /** What everything behind the block reads of the block and everything before it. */
  readonly outputs: readonly ValueName[];
}

/** A cut must be as narrow as every other place within this many nodes: about the size of a branch. */
const neighbourhood = 10;

/**
 * Cuts a network into blocks by data flow, not by names: between residual blocks, behind the Concat of parallel branches,
 * behind each layer of a chain. What stays live throughout (masks, position tables) does not disturb. A network without a
 * narrow place is one block.
 *
 * @param layers nodes of which each block must hold at least one
 * @param inseparable values that must have their readers in their own block
 */
export function findBlocks(
  graph: Graph,
  types: ValueTypes,
  layers: ReadonlySet<Node>,
  inseparable: ReadonlySet<ValueName>,
): readonly Block[] {
  const boundaries = liveValues(graph);
  const widths = boundaries.map((live) => live.filter((value) => isWide(types, value)).length);
  const blocks: Block[] = [];
  let start = 0;
  let layersInside = 0;
  let layersBehind = graph.nodes.filter((node) => layers.has(node)).length;
  graph.nodes.forEach((node, i) => {
    if (layers.has(node)) {
      layersInside++;
      layersBehind--;
    }
    const isLast = i === graph.nodes.length - 1;
    const isFull = layersInside > 0 && layersBehind > 0;
    const isCut = isFull && isNarrowest(widths, i) && !boundaries[i].some((value) => inseparable.has(value));
    if (!isLast && !isCut) return;
    const inputs = start === 0 ? inputNames(graph) : boundaries[start - 1];
    blocks.push({ nodes: graph.nodes.slice(start, i + 1), inputs, outputs: boundaries[i] });
    start = i + 1;
    layersInside = 0;
  });
  return blocks;
}

/** For each node, the values that exist behind it and are read later. */
function liveValues(graph: Graph): readonly (readonly ValueName[])[] {
  const lastReader = new Map<ValueName, number>();
  graph.nodes.forEach((node, i) => {
    for (const value of readsOf(node)) lastReader.set(value, i);
  });
  let live = inputNames(graph).filter((value) => lastReader.has(value));
  return graph.nodes.map((node, i) => {
    const made = node.outputs.filter((value) => value !== "");
    live = [...live, ...made].filter((value) => (lastReader.get(value) ?? -1) > i);
    return live;
  });
}

/** Shapes and indices are small; only float tensors make a place wide. */
function isWide(types: ValueTypes, value: ValueName): boolean {
  const type = elementTypeOf(types, value);
  return type === undefined || isFloatType(type);
}

function isNarrowest(widths: readonly number[], i: number): boolean {
  for (let j = Math.max(0, i - neighbourhood); j < Math.min(widths.length - 1, i + neighbourhood + 1); j++) {
    if (widths[j] < widths[i]) return false;
  }
  return true;
}

function inputNames(graph: Graph): readonly ValueName[] {
  return graph.inputs.map((input) => input.name).filter((name) => !graph.initializers.has(name));
}
