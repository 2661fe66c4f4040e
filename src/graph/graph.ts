import { RecoupError } from "../errors.js";
import type { ElementType } from "../tensor/element-type.js";
import type { Tensor } from "../tensor/tensor.js";
import { needsFirst } from "./needs-first.js";

export type ValueName = string;

/** A size, the name of a size that is only known when the model runs, or null where nothing is known. */
export type Dimension = number | string | null;

export type ValueType =
  | { readonly kind: "tensor"; readonly elementType: ElementType; readonly shape?: readonly Dimension[] }
  /** Sequences, maps, optionals: kept, never looked into. */
  | { readonly kind: "other" };

/** A declared value: an input or output of a graph, or a remark of the exporter on a value in between. */
export interface Value {
  readonly name: ValueName;
  readonly type: ValueType;
  readonly origin?: object;
}

export type Attribute =
  | { readonly kind: "int"; readonly value: number; readonly origin?: object }
  | { readonly kind: "float"; readonly value: number; readonly origin?: object }
  | { readonly kind: "string"; readonly value: string; readonly origin?: object }
  | { readonly kind: "tensor"; readonly value: Tensor; readonly origin?: object }
  | { readonly kind: "graph"; readonly value: Graph; readonly origin?: object }
  | { readonly kind: "ints"; readonly value: readonly number[]; readonly origin?: object }
  | { readonly kind: "floats"; readonly value: readonly number[]; readonly origin?: object }
  | { readonly kind: "strings"; readonly value: readonly string[]; readonly origin?: object }
  | { readonly kind: "graphs"; readonly value: readonly Graph[]; readonly origin?: object }
  /** Sparse tensors, types, lists of tensors: kept, never looked into. In a function also the name of what a call gives. */
  | { readonly kind: "opaque"; readonly reference?: string; readonly origin?: object };

/** One use of an operator. A node is compared by identity: a changed node is another node. */
export interface Node {
  /** May be empty; where it is not, it is unique. */
  readonly name: string;
  readonly opType: string;
  /** Empty for the standard's own operators. */
  readonly domain: string;
  /** Which of several functions of one name a node calls; not given for operators. */
  readonly overload?: string;
  /** An empty name means "not given". */
  readonly inputs: readonly ValueName[];
  /** An empty name means "not wanted". */
  readonly outputs: readonly ValueName[];
  readonly attributes: ReadonlyMap<string, Attribute>;
  /** What the node was read from, for a writer that keeps what nobody changed; opaque here. */
  readonly origin?: object;
}

/** What a graph consists of. `origin` as in `Node`. */
export interface GraphParts {
  readonly name: string;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly nodes: readonly Node[];
  readonly initializers: ReadonlyMap<ValueName, Tensor>;
  /** What the exporter remarked on values in between; a remark on a value that a patch changes is dropped. */
  readonly valueInfo: ReadonlyMap<ValueName, Value>;
  readonly origin?: object;
}

/** A network: nodes in topological order with their def-use chains. Knows nothing of files or of quantization. */
export interface Graph extends GraphParts {
  /** Names of outer graphs that this graph's nodes read; empty for a whole model. */
  readonly captures: ReadonlySet<ValueName>;
  producer(value: ValueName): Node | undefined;
  /** The nodes that read a value, each once, those that read it inside a subgraph included. */
  consumers(value: ValueName): readonly Node[];
  isInput(value: ValueName): boolean;
  isOutput(value: ValueName): boolean;
  /** The tensor of an initializer that callers cannot override; undefined for anything else. */
  constant(value: ValueName): Tensor | undefined;
}

/**
 * Connects the parts to a graph: sorts the nodes topologically (keeping their order where it is valid already) and
 * builds the def-use chains.
 *
 * @param isNested true for a subgraph, whose nodes may read names of outer graphs
 * @throws RecoupError `graph/invalid` for a value defined twice, a value nobody defines, an input, output or initializer
 * without a name, a node name used twice, a cycle
 */
export function buildGraph(parts: GraphParts, isNested = false): Graph {
  const inputs = indexInputs(parts);
  const outputs = new Set(parts.outputs.map((output) => output.name));
  const producers = indexProducers(parts, inputs);
  const captures = new Set<ValueName>();
  const consumers = new Map<ValueName, Node[]>();
  for (const node of parts.nodes) {
    for (const value of readsOf(node)) {
      const readers = consumers.get(value);
      if (readers) readers.push(node);
      else consumers.set(value, [node]);
      if (!producers.has(value) && !inputs.has(value) && !parts.initializers.has(value)) captures.add(value);
    }
  }
  for (const output of outputs) {
    if (!producers.has(output) && !inputs.has(output) && !parts.initializers.has(output)) captures.add(output);
  }
  if (!isNested && captures.size > 0) {
    const [missing] = captures;
    throw new RecoupError("graph/invalid", "is read but no node, input or initializer defines it", { field: missing });
  }
  return {
    ...parts,
    nodes: sortNodes(parts.nodes, producers),
    captures,
    producer: (value) => producers.get(value),
    consumers: (value) => consumers.get(value) ?? [],
    isInput: (value) => inputs.has(value),
    isOutput: (value) => outputs.has(value),
    constant: (value) => (inputs.has(value) ? undefined : parts.initializers.get(value)),
  };
}

/** The values a node reads, each once: its inputs and what its subgraphs capture. */
export function readsOf(node: Node): ReadonlySet<ValueName> {
  const known = knownReads.get(node);
  if (known) return known;
  const reads = new Set(node.inputs);
  reads.delete("");
  for (const graph of subgraphsOf(node)) {
    for (const value of graph.captures) reads.add(value);
  }
  knownReads.set(node, reads);
  return reads;
}

/** Nodes never change, and every patch asks again for those of all that stay. */
const knownReads = new WeakMap<Node, ReadonlySet<ValueName>>();

/** The bodies of control flow operators: `If`, `Loop`, `Scan` and whatever else carries a graph. */
export function subgraphsOf(node: Node): readonly Graph[] {
  return [...node.attributes.values()].flatMap((attribute) => {
    if (attribute.kind === "graph") return [attribute.value];
    return attribute.kind === "graphs" ? attribute.value : [];
  });
}

function indexInputs(parts: GraphParts): ReadonlySet<ValueName> {
  const inputs = new Set<ValueName>();
  for (const { name } of parts.inputs) {
    if (inputs.has(name)) throw new RecoupError("graph/invalid", "is the name of two inputs", { field: name });
    inputs.add(name);
  }
  const declared = [...inputs, ...parts.outputs.map((output) => output.name), ...parts.initializers.keys()];
  if (declared.includes("")) {
    throw new RecoupError("graph/invalid", "has an input, output or initializer without a name", { field: parts.name });
  }
  return inputs;
}

function indexProducers(parts: GraphParts, inputs: ReadonlySet<ValueName>): Map<ValueName, Node> {
  const producers = new Map<ValueName, Node>();
  const nodeNames = new Set<string>();
  for (const node of parts.nodes) {
    if (node.name !== "" && nodeNames.has(node.name)) {
      throw new RecoupError("graph/invalid", "is the name of two nodes", { field: node.name });
    }
    nodeNames.add(node.name);
    for (const output of node.outputs) {
      if (output === "") continue;
      if (producers.has(output) || inputs.has(output) || parts.initializers.has(output)) {
        throw new RecoupError("graph/invalid", "is defined twice", { field: output });
      }
      producers.set(output, node);
    }
  }
  return producers;
}

/** Each node goes after the producers of what it reads; apart from that the order stays. */
function sortNodes(nodes: readonly Node[], producers: ReadonlyMap<ValueName, Node>): readonly Node[] {
  if (areSorted(nodes, producers)) return nodes;
  const producersOf = (node: Node) =>
    [...readsOf(node)].map((value) => producers.get(value)).filter((producer) => producer !== undefined);
  return needsFirst(nodes, producersOf, ({ name, outputs }) => {
    return new RecoupError("graph/invalid", "is part of a cycle", { field: name || outputs[0] });
  });
}

function areSorted(nodes: readonly Node[], producers: ReadonlyMap<ValueName, Node>): boolean {
  const done = new Set<Node>();
  for (const node of nodes) {
    for (const value of readsOf(node)) {
      const producer = producers.get(value);
      if (producer !== undefined && !done.has(producer)) return false;
    }
    done.add(node);
  }
  return true;
}
