import { fixedValues, randomOperators } from "../graph/fixed-values.js";
import { type Graph, type Node, readsOf, type ValueName } from "../graph/graph.js";
import { isOperator, labelOf, onlyConsumer } from "../graph/node.js";
import { elementTypeOf, shapeOf, type ValueTypes } from "../graph/value-types.js";
import { valuesBehind } from "../graph/values-behind.js";
import { isFloatType } from "../tensor/element-type.js";
import type { Block } from "./blocks.js";
import { findLayerBlocks } from "./layer-blocks.js";

/** A part of a network that one activation enters and one leaves. */
export interface Section {
  readonly label: string;
  readonly entry: ValueName;
  readonly exit: ValueName;
  /** What computes the exit from the entry, in topological order. */
  readonly nodes: readonly Node[];
  /** What the nodes read besides: values of the network that no layer lies above, as masks. */
  readonly sides: readonly ValueName[];
}

/** A part that is no section, and why. */
export interface NoSection {
  readonly label: string;
  readonly reason: string;
}

/** How much of a network makes a section. */
export type SectionSize =
  /** An attention and what follows it up to the next one; two layers of a chain; a residual block; a module of branches. */
  | "block"
  /** As little as can be. */
  | "part";

/** Layers of a chain that make a section. */
const layersOfChain = 2;

/**
 * Cuts a network where a single activation is left that layers lie above, by data flow: residual blocks, transformer
 * layers, modules of parallel branches, runs of a chain. What a pooling, an activation function or a change of its form makes
 * of that activation before the first layer stands for it, as long as it is one value.
 */
export function findSections(
  graph: Graph,
  types: ValueTypes,
  layers: readonly Node[],
  size: SectionSize,
): { readonly sections: readonly Section[]; readonly others: readonly NoSection[] } {
  const network = new Network(graph, types, layers);
  const blocks = findLayerBlocks(graph, types, layers);
  const sections: Section[] = [];
  const others: NoSection[] = [];
  let start = 1;
  for (let i = 1; i < blocks.length; i++) {
    if (i < blocks.length - 1 && size === "block" && network.goesOn(blocks, start, i)) continue;
    const found = network.sectionOf(blocks, start, i);
    if ("reason" in found) others.push(found);
    else sections.push(found);
    start = i + 1;
  }
  return { sections, others };
}

class Network {
  readonly #graph: Graph;
  readonly #types: ValueTypes;
  readonly #layers: ReadonlySet<Node>;
  readonly #fixed: ReadonlySet<ValueName>;
  /** Values that a layer lies above. */
  readonly #computed: ReadonlySet<ValueName>;

  constructor(graph: Graph, types: ValueTypes, layers: readonly Node[]) {
    this.#graph = graph;
    this.#types = types;
    this.#layers = new Set(layers);
    this.#fixed = fixedValues(graph);
    this.#computed = valuesBehind(
      graph.nodes,
      layers.flatMap((layer) => layer.outputs),
    );
  }

  /** Whether a section that began with one block goes on behind another. */
  goesOn(blocks: readonly Block[], start: number, last: number): boolean {
    const next = blocks[last + 1];
    // The last block ends in what the network is for: a head is no part of anything.
    if (last + 1 === blocks.length - 1 || this.#crossing(blocks[last]).length !== 1) return false;
    if (hasProduct(blocks[start], this.#fixed)) return !hasProduct(next, this.#fixed) && this.#isBranched(next);
    const inside = blocks.slice(start, last + 1);
    if (inside.some((block) => this.#isBranched(block))) return false;
    const count = inside.flatMap(({ nodes }) => nodes).filter((node) => this.#layers.has(node)).length;
    return count < layersOfChain && (!this.#isBranched(next) || this.#isSqueeze(blocks, start, last));
  }

  /** Whether a block narrows what enters it for branches behind it that are joined again, as in a fire module. */
  #isSqueeze(blocks: readonly Block[], start: number, last: number): boolean {
    const places = [blocks[start - 1], blocks[last], blocks[last + 1]].map((block) => this.#crossing(block));
    if (places.some((crossing) => crossing.length !== 1)) return false;
    const [before, between, behind] = places.map(([value]) => shapeOf(this.#types, value)?.[1]);
    const isJoined = isOperator(this.#graph.producer(places[2][0]), "Concat");
    const areCounted = typeof before === "number" && typeof between === "number" && typeof behind === "number";
    return isJoined && areCounted && between < before && between < behind;
  }

  sectionOf(blocks: readonly Block[], start: number, last: number): Section | NoSection {
    const label = labelOf(blocks[start].nodes.find((node) => this.#layers.has(node)) ?? blocks[start].nodes[0]);
    if (last === blocks.length - 1) return { label, reason: "it ends in the outputs of the network" };
    const entering = this.#crossing(blocks[start - 1]);
    const leaving = this.#crossing(blocks[last]);
    if (entering.length !== 1) return { label, reason: `${entering.length} activations enter it` };
    if (leaving.length !== 1) return { label, reason: `${leaving.length} activations leave it` };
    const entry = this.#beforeLayers(entering[0], blocks[start]);
    const exit = this.#behindActivation(leaving[0]);
    const part = this.#between(entry, exit);
    if (part === undefined) return { label, reason: `${exit} does not depend on ${entry} alone` };
    if (!part.nodes.some((node) => this.#layers.has(node))) return { label, reason: "no layer lies inside" };
    return { label: exit, entry, exit, ...part };
  }

  /** The activations behind a block that later blocks read. */
  #crossing({ outputs }: Block): readonly ValueName[] {
    return outputs.filter((value) => this.#computed.has(value) && this.#isFloat(value));
  }

  #isFloat(value: ValueName): boolean {
    const type = elementTypeOf(this.#types, value);
    return type === undefined || isFloatType(type);
  }

  /** Whether what enters a block takes more than one way through it. */
  #isBranched(block: Block): boolean {
    const own = new Set(block.nodes);
    const [entry] = block.inputs.filter((value) => this.#computed.has(value) && this.#isFloat(value));
    if (entry === undefined) return true;
    return this.#graph.consumers(this.#beforeLayers(entry, block)).filter((node) => own.has(node)).length > 1;
  }

  /** What is left of an activation that enters a block before the first layer: the last place where it is one value. */
  #beforeLayers(value: ValueName, { nodes }: Block): ValueName {
    const live = new Map([[value, this.#readersOf(value)]]);
    let entry = value;
    for (const node of nodes) {
      if (this.#layers.has(node)) break;
      const read = [...readsOf(node)].filter((input) => live.has(input));
      for (const input of read) live.get(input)?.delete(node);
      for (const output of node.outputs) {
        if (read.length > 0 && this.#isFloat(output)) live.set(output, this.#readersOf(output));
      }
      for (const [one, readers] of live) if (readers.size === 0) live.delete(one);
      if (live.size === 1) [entry] = live.keys();
    }
    return entry;
  }

  #readersOf(value: ValueName): Set<Node> {
    return new Set(this.#graph.consumers(value));
  }

  #behindActivation(value: ValueName): ValueName {
    const next = onlyConsumer(this.#graph, value);
    return isOperator(next, "Relu", "Clip") && next.inputs[0] === value ? next.outputs[0] : value;
  }

  /** What computes one value from another; undefined where other activations take part or chance does. */
  #between(entry: ValueName, exit: ValueName): Pick<Section, "nodes" | "sides"> | undefined {
    const behind = valuesBehind(this.#graph.nodes, [entry]);
    if (!behind.has(exit) || entry === exit) return undefined;
    const nodes = new Set<Node>();
    const sides = new Set<ValueName>();
    const open = [exit];
    for (let value = open.pop(); value !== undefined; value = open.pop()) {
      if (value === entry || this.#graph.initializers.has(value)) continue;
      const node = this.#graph.producer(value);
      const isInside = behind.has(value) || this.#fixed.has(value);
      if (!isInside || node === undefined) {
        if (this.#computed.has(value)) return undefined;
        sides.add(value);
        continue;
      }
      if (nodes.has(node)) continue;
      if (isOperator(node, ...randomOperators)) return undefined;
      nodes.add(node);
      for (const read of readsOf(node)) open.push(read);
    }
    return { nodes: this.#graph.nodes.filter((node) => nodes.has(node)), sides: [...sides] };
  }
}

/** Whether two activations are multiplied in a block, as attention does. */
export function hasProduct({ nodes }: Pick<Block, "nodes">, fixed: ReadonlySet<ValueName>): boolean {
  const made = new Set(nodes.flatMap((node) => node.outputs));
  return nodes.some(
    (node) =>
      (isOperator(node, "MatMul") && node.inputs.every((input) => made.has(input) && !fixed.has(input))) ||
      isOperator(node, "Attention"),
  );
}
