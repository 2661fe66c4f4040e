import type { Tensor } from "../tensor/tensor.js";
import type { Attribute, Node, ValueName } from "./graph.js";
import type { NameSource } from "./names.js";
import { makeNode } from "./node.js";
import type { GraphPatch } from "./patch.js";

type Attributes = Readonly<Record<string, number | string | readonly number[] | Attribute>> | Node["attributes"];

/** Constants that several patches use: written by the first, named here for the others. */
export type SharedConstants = Map<string, ValueName>;

/** Collects the new nodes and constants of a patch, under free names. */
export class PatchWriter {
  readonly nodes: Node[] = [];
  readonly initializers = new Map<ValueName, Tensor>();
  readonly names: NameSource;
  readonly #shared: SharedConstants;

  constructor(names: NameSource, shared: SharedConstants = new Map()) {
    this.names = names;
    this.#shared = shared;
  }

  /** A node with one output; returns the output's name, `base` where it is free. */
  node(opType: string, inputs: readonly ValueName[], base: string, attributes: Attributes = {}): ValueName {
    return this.nodeTo(this.names.fresh(base), opType, inputs, attributes);
  }

  /** A node that takes over an existing value. */
  nodeTo(output: ValueName, opType: string, inputs: readonly ValueName[], attributes: Attributes = {}): ValueName {
    // Names of nodes are optional, and in models with thousands of new nodes they would be most of the new bytes.
    const isMap = attributes instanceof Map;
    const node = makeNode(opType, inputs, [output], isMap ? {} : (attributes as Record<string, number>), "");
    this.nodes.push(isMap ? { ...node, attributes } : node);
    return output;
  }

  /** A changed node of the graph, or one that needs more than one output. */
  add(node: Node): void {
    this.nodes.push(node);
  }

  constant(base: string, tensor: Tensor): ValueName {
    const name = this.names.fresh(base);
    this.initializers.set(name, tensor);
    return name;
  }

  /** A constant that is the same wherever it has this name. */
  sharedConstant(base: string, make: () => Tensor): ValueName {
    const known = this.#shared.get(base);
    if (known !== undefined) return known;
    const name = this.constant(base, make());
    this.#shared.set(base, name);
    return name;
  }

  finish(label: string, rest: Pick<GraphPatch, "remove" | "redirect"> = {}): GraphPatch {
    return { label, ...rest, add: this.nodes, initializers: this.initializers };
  }
}
