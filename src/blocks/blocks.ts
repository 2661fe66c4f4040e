import { fedInputs } from "../graph/fed-inputs.js";
import { fixedValues } from "../graph/fixed-values.js";
import { type Graph, type Node, readsOf, type ValueName } from "../graph/graph.js";
import { elementTypeOf, type ValueTypes } from "../graph/value-types.js";
import { isFloatType } from "../tensor/element-type.js";

/** A run of nodes between two places where few tensors are live. */
export interface Block {
  readonly nodes: readonly Node[];
  /**
   * What the block and everything behind it read of everything before it, inputs of the graph included. What depends on
   * constants only is not carried: it can be computed again, and a weight's quantization may replace it.
   */
  readonly inputs: readonly ValueName[];
  /** What everything behind the block reads of the block and everything before it, again without what is constant. */
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
  const cuts = findCuts(graph, types, layers, inseparable);
  const blocks: Block[] = [];
  const live = new LiveValues(graph);
  let start = 0;
  let inputs = [...live.values];
  graph.nodes.forEach((node, i) => {
    live.pass(node, i);
    if (!cuts.has(i)) return;
    const outputs = [...live.values];
    blocks.push({ nodes: graph.nodes.slice(start, i + 1), inputs, outputs });
    start = i + 1;
    inputs = outputs;
  });
  return blocks;
}

/** Indices of the nodes behind which a block ends, the last node included. */
function findCuts(
  graph: Graph,
  types: ValueTypes,
  layers: ReadonlySet<Node>,
  inseparable: ReadonlySet<ValueName>,
): ReadonlySet<number> {
  const widths = countLive(graph, (value) => isWide(types, value));
  const obstacles = countLive(graph, (value) => inseparable.has(value));
  const last = graph.nodes.length - 1;
  const cuts = new Set<number>();
  let layersInside = 0;
  let layersBehind = graph.nodes.filter((node) => layers.has(node)).length;
  graph.nodes.forEach((node, i) => {
    if (layers.has(node)) {
      layersInside++;
      layersBehind--;
    }
    const isFull = layersInside > 0 && layersBehind > 0;
    if (i !== last && !(isFull && obstacles[i] === 0 && isNarrowest(widths, i))) return;
    cuts.add(i);
    layersInside = 0;
  });
  return cuts;
}

/** For each node, how many of some values exist behind it and are read later. */
function countLive(graph: Graph, isCounted: (value: ValueName) => boolean): readonly number[] {
  const live = new LiveValues(graph);
  const count = (values: Iterable<ValueName>) => [...values].filter(isCounted).length;
  let width = count(live.values);
  return graph.nodes.map((node, i) => {
    const { made, gone } = live.pass(node, i);
    width += count(made) - count(gone);
    return width;
  });
}

/**
 * The values that exist at a place in the network and are read behind it, inputs of the graph included, without those that
 * depend on constants only.
 */
class LiveValues {
  readonly values: Set<ValueName>;
  readonly #lastReader = new Map<ValueName, number>();

  constructor(graph: Graph) {
    const fixed = fixedValues(graph);
    graph.nodes.forEach((node, i) => {
      for (const value of readsOf(node)) if (!fixed.has(value)) this.#lastReader.set(value, i);
    });
    const fed = fedInputs(graph).map((input) => input.name);
    this.values = new Set(fed.filter((value) => this.#lastReader.has(value)));
  }

  /** Moves behind a node, the next one in order. */
  pass(node: Node, index: number): { readonly made: readonly ValueName[]; readonly gone: readonly ValueName[] } {
    const gone = [...readsOf(node)].filter(
      (value) => this.#lastReader.get(value) === index && this.values.delete(value),
    );
    const made = node.outputs.filter((value) => this.#lastReader.has(value));
    for (const value of made) this.values.add(value);
    return { made, gone };
  }
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
