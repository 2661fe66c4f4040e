import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator, operatorName } from "../graph/node.js";
import { elementTypeOf, shapeOf, type ValueTypes } from "../graph/value-types.js";
import { limitsOf } from "../operators/limits.js";
import { isFloatType } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";

/** A value of the float network, and what it is called in the other one. */
export interface Pair {
  readonly float: ValueName;
  readonly other: ValueName;
  /** The Relu or Clip that computes the float value, where the other network leaves it to the limits of its grid. */
  readonly absorbed?: Node;
}

export interface Unmatched {
  /** In the float network. */
  readonly node: Node;
  readonly reason: string;
}

export interface Match {
  readonly pairs: readonly Pair[];
  readonly unmatched: readonly Unmatched[];
}

/** Relative distance from which on two weights have nothing to do with each other; 2 bits leave about 0.5. */
const farthest = 0.8;

/**
 * Finds for the values of a float network the ones of another that mean the same, from the inputs to the outputs: of the
 * nodes that read the same values with the same operator, the one whose constants are closest. Where the way from the inputs is
 * lost, a weight or a name is where it is taken up again. What is found is a guess that still has to be tried on samples.
 *
 * @param other the float twin of a quantized network, cleaned as the float network is
 */
export function matchGraphs(float: Graph, other: Graph, types: ValueTypes): Match {
  return new Matcher(float, other, types).match();
}

class Matcher {
  readonly #float: Graph;
  readonly #other: Graph;
  readonly #types: ValueTypes;
  readonly #found = new Map<ValueName, ValueName>();
  readonly #taken = new Set<Node>();
  readonly #pairs: Pair[] = [];
  readonly #unmatched: Unmatched[] = [];
  readonly #norms = new Map<Tensor, number>();

  constructor(float: Graph, other: Graph, types: ValueTypes) {
    this.#float = float;
    this.#other = other;
    this.#types = types;
  }

  match(): Match {
    for (const { name } of this.#float.inputs) if (this.#other.isInput(name)) this.#found.set(name, name);
    const open: Node[] = [];
    for (const node of this.#float.nodes) if (!this.#pairNode(node)) open.push(node);
    for (const node of open) {
      const isNumbers = isFloatType(elementTypeOf(this.#types, node.outputs[0]) ?? "int64");
      if (isNumbers) this.#unmatched.push({ node, reason: this.#reasonFor(node) });
    }
    return { pairs: this.#pairs, unmatched: this.#unmatched };
  }

  #pairNode(node: Node): boolean {
    const twin = this.#byInputs(node) ?? this.#byWeight(node) ?? this.#byName(node);
    if (twin === undefined) return this.#absorb(node);
    this.#taken.add(twin);
    node.outputs.forEach((value, i) => {
      const other = twin.outputs[i] ?? "";
      if (value !== "" && other !== "") this.#pair({ float: value, other });
    });
    return true;
  }

  #pair(pair: Pair): void {
    this.#found.set(pair.float, pair.other);
    this.#pairs.push(pair);
  }

  #byInputs(node: Node): Node | undefined {
    const [known] = node.inputs.flatMap((input) => this.#found.get(input) ?? []);
    if (known === undefined) return undefined;
    return this.#closest(this.#candidates(node, this.#other.consumers(known)), (twin) => this.#distance(node, twin));
  }

  /** A weight of many numbers is like no other. */
  #byWeight(node: Node): Node | undefined {
    const isLayer = isOperator(node, "Conv", "ConvTranspose", "Gemm", "MatMul", "Gather");
    const input = node.inputs.findIndex((value) => isWeight(this.#float.constant(value)));
    if (!isLayer || input < 0) return undefined;
    const weight = this.#float.constant(node.inputs[input]) as Tensor;
    return this.#closest(this.#candidates(node, this.#other.nodes), (twin) => {
      const other = this.#other.constant(twin.inputs[input] ?? "");
      return other === undefined ? undefined : this.#tensorDistance(weight, other);
    });
  }

  #byName(node: Node): Node | undefined {
    const twin = this.#other.producer(node.outputs[0]);
    return twin !== undefined && this.#candidates(node, [twin]).length === 1 ? twin : undefined;
  }

  #candidates(node: Node, among: readonly Node[]): readonly Node[] {
    return among.filter((twin) => operatorName(twin) === operatorName(node) && !this.#taken.has(twin));
  }

  #closest(candidates: readonly Node[], distanceTo: (twin: Node) => number | undefined): Node | undefined {
    let best: { readonly twin: Node; readonly distance: number } | undefined;
    for (const twin of candidates) {
      const distance = distanceTo(twin);
      if (distance !== undefined && (best === undefined || distance < best.distance)) best = { twin, distance };
    }
    return best?.twin;
  }

  /** How far the constants of two nodes are from each other; undefined where they read different values. */
  #distance(node: Node, twin: Node): number | undefined {
    const straight = this.#inputDistance(node.inputs, twin.inputs);
    if (straight !== undefined || !isOperator(node, "Add", "Mul")) return straight;
    return this.#inputDistance(node.inputs, [...twin.inputs].reverse());
  }

  #inputDistance(inputs: readonly ValueName[], others: readonly ValueName[]): number | undefined {
    let sum = 0;
    for (let i = 0; i < Math.max(inputs.length, others.length); i++) {
      const distance = this.#valueDistance(inputs[i] ?? "", others[i] ?? "");
      if (distance === undefined) return undefined;
      sum += distance;
    }
    return sum;
  }

  #valueDistance(input: ValueName, other: ValueName): number | undefined {
    const [constant, otherConstant] = [this.#float.constant(input), this.#other.constant(other)];
    if (input === "" || other === "") {
      // A bias that only one of them has does not make another layer of it.
      const given = constant ?? otherConstant;
      return input === other || (given !== undefined && isFloatType(given.type)) ? 0 : undefined;
    }
    if (constant !== undefined && otherConstant !== undefined) return this.#tensorDistance(constant, otherConstant);
    if (this.#found.get(input) === other) return 0;
    // Shapes may be known in one network and computed in the other.
    const isNumbers = isFloatType(constant?.type ?? elementTypeOf(this.#types, input) ?? "float32");
    return isNumbers ? undefined : 0;
  }

  /** Undefined for different shapes and for weights that have nothing to do with each other. */
  #tensorDistance(a: Tensor, b: Tensor): number | undefined {
    if (!isFloatType(a.type) || !isFloatType(b.type))
      return isFloatType(a.type) === isFloatType(b.type) ? 0 : undefined;
    if (elementCount(a.shape) !== elementCount(b.shape)) return undefined;
    if (isWeight(a) && !a.shape.every((size, axis) => size === b.shape[axis])) return undefined;
    const [x, y] = [float32Values(a), float32Values(b)];
    let norm = this.#norms.get(a);
    if (norm === undefined) {
      norm = x.reduce((sum, value) => sum + value * value, 0);
      this.#norms.set(a, norm);
    }
    const difference = x.reduce((sum, value, i) => sum + (value - y[i]) ** 2, 0);
    const distance = Math.sqrt(difference / Math.max(norm, 1e-30));
    // Few numbers may be far off on a coarse grid; a tie is all they decide.
    if (!isWeight(a)) return Math.min(distance, 1) * 1e-3;
    return distance < farthest ? distance : undefined;
  }

  /** The limits of a grid do the work of a Relu: the value before it and the value behind it are one in the other network. */
  #absorb(node: Node): boolean {
    const other = this.#found.get(node.inputs[0]);
    if (other === undefined || limitsOf(this.#float, node) === undefined) return false;
    this.#pair({ float: node.outputs[0], other, absorbed: node });
    return true;
  }

  #reasonFor(node: Node): string {
    const lost = node.inputs.find(
      (input) => input !== "" && !this.#found.has(input) && this.#float.constant(input) === undefined,
    );
    if (lost !== undefined && isFloatType(elementTypeOf(this.#types, lost) ?? "int64")) {
      return `what it reads, ${lost}, was not found in the quantized model`;
    }
    const shape = shapeOf(this.#types, node.outputs[0]);
    const what = shape === undefined ? "" : ` [${shape.map((size) => size ?? "?").join(", ")}]`;
    return `no ${operatorName(node)} of the quantized model reads the same${what && ` and gives${what}`}`;
  }
}

/** A matrix or more, with enough numbers that a likeness is no chance. */
function isWeight(tensor: Tensor | undefined): boolean {
  return (
    tensor !== undefined && isFloatType(tensor.type) && tensor.shape.length > 1 && elementCount(tensor.shape) >= 16
  );
}
