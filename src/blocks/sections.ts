import { fedInputs } from "../graph/fed-inputs.js";
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
 *
 * What a network begins with is a section where what it is fed takes more than one way through it, and the ways meet. A stem,
 * which only makes the first activation, is none.
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
  let start = 0;
  for (let i = 0; i < blocks.length; i++) {
    const stem = i === start && i < blocks.length - 1 ? network.stemOf(blocks[i]) : undefined;
    if (stem !== undefined) {
      others.push(stem);
      start = i + 1;
      continue;
    }
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
  readonly #fed: ReadonlySet<ValueName>;
  /** Values that a layer lies above. */
  readonly #computed: ReadonlySet<ValueName>;

  constructor(graph: Graph, types: ValueTypes, layers: readonly Node[]) {
    this.#graph = graph;
    this.#types = types;
    this.#layers = new Set(layers);
    this.#fixed = fixedValues(graph);
    this.#fed = new Set(fedInputs(graph).map(({ name }) => name));
    this.#computed = valuesBehind(
      graph.nodes,
      layers.flatMap((layer) => layer.outputs),
    );
  }

  /** Why a block that begins with what the network is fed makes no section; undefined where it may, and of all other blocks. */
  stemOf(block: Block): NoSection | undefined {
    const entering = this.#entering(block);
    if (entering.some((value) => this.#computed.has(value))) return undefined;
    const label = this.#labelOf(block);
    if (entering.length !== 1) return { label, reason: `${entering.length} inputs of the network enter it` };
    if (!this.#isFloat(entering[0])) return { label, reason: "what enters it are no activations" };
    const leaving = this.#crossing(block);
    if (leaving.length !== 1 || hasProduct(block, this.#fixed)) return undefined;
    const entry = this.#beforeLayers(entering[0], block);
    const inside = new Set(this.#between(entry, leaving[0])?.nodes ?? block.nodes);
    const isJoined = this.#readersOf(entry, inside).length > 1;
    return isJoined ? undefined : { label, reason: "it is the stem: nothing leads around its layers" };
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
    const behindBoth = [blocks[last], blocks[last + 1]].map((block) => this.#crossing(block));
    const places = [this.#entering(blocks[start]), ...behindBoth];
    if (places.some((crossing) => crossing.length !== 1)) return false;
    const [before, between, behind] = places.map(([value]) => shapeOf(this.#types, value)?.[1]);
    const isJoined = isOperator(this.#graph.producer(places[2][0]), "Concat");
    const areCounted = typeof before === "number" && typeof between === "number" && typeof behind === "number";
    return isJoined && areCounted && between < before && between < behind;
  }

  sectionOf(blocks: readonly Block[], start: number, last: number): Section | NoSection {
    const label = this.#labelOf(blocks[start]);
    if (last === blocks.length - 1) return { label, reason: "it ends in the outputs of the network" };
    const entering = this.#entering(blocks[start]);
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

  #labelOf({ nodes }: Block): string {
    return labelOf(nodes.find((node) => this.#layers.has(node)) ?? nodes[0]);
  }

  /**
   * The activations that a block and those behind it read. Where there are none yet, the inputs of the network that the block
   * reads; masks and the like, which others read too, are among them only if it reads nothing else.
   */
  #entering({ inputs, nodes, outputs }: Block): readonly ValueName[] {
    const activations = inputs.filter((value) => this.#isActivation(value));
    if (activations.length > 0) return activations;
    const reads = new Set(nodes.flatMap((node) => [...readsOf(node)]));
    const fed = inputs.filter((value) => this.#fed.has(value) && reads.has(value));
    const own = fed.filter((value) => !outputs.includes(value));
    return own.length > 0 ? own : fed;
  }

  /** The activations behind a block that later blocks read. */
  #crossing({ outputs }: Block): readonly ValueName[] {
    return outputs.filter((value) => this.#isActivation(value));
  }

  #isActivation(value: ValueName): boolean {
    return this.#computed.has(value) && this.#isFloat(value);
  }

  #isFloat(value: ValueName): boolean {
    const type = elementTypeOf(this.#types, value);
    return type === undefined || isFloatType(type);
  }

  /** Whether what enters a block takes more than one way through it. */
  #isBranched(block: Block): boolean {
    const [entry] = this.#entering(block);
    if (entry === undefined) return true;
    return this.#readersOf(this.#beforeLayers(entry, block), new Set(block.nodes)).length > 1;
  }

  /** Nodes that an activation enters; a Shape takes nothing of it on. */
  #readersOf(value: ValueName, among: ReadonlySet<Node>): readonly Node[] {
    return this.#graph.consumers(value).filter((node) => among.has(node) && !isOperator(node, "Shape"));
  }

  /** What is left of an activation that enters a block before the first layer: the last place where it is one value. */
  #beforeLayers(value: ValueName, { nodes }: Block): ValueName {
    const live = new Map([[value, new Set(this.#graph.consumers(value))]]);
    let entry = value;
    for (const node of nodes) {
      if (this.#layers.has(node)) break;
      const read = [...readsOf(node)].filter((input) => live.has(input));
      for (const input of read) live.get(input)?.delete(node);
      for (const output of node.outputs) {
        if (read.length > 0 && this.#isFloat(output)) live.set(output, new Set(this.#graph.consumers(output)));
      }
      for (const [one, readers] of live) if (readers.size === 0) live.delete(one);
      if (live.size === 1) [entry] = live.keys();
    }
    return entry;
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
