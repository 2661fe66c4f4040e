import { DecidedValues, type DecisionRule } from "../graph/decided-values.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";
import { elementTypeOf, type ValueTypes } from "../graph/value-types.js";
import { behindActivation, computedInputs, duplicatesElements, selectedInputs } from "../operators/selecting.js";
import { holdsShares } from "../operators/softmax.js";
import type { ActivationFormat } from "./format.js";
import type { Spacing } from "./spacing.js";

/** A node whose integer kernel needs quantized inputs. */
export interface ActivationDemand {
  readonly node: Node;
  readonly values: readonly ValueName[];
  readonly format: ActivationFormat;
  /** Whether the node multiplies activations with each other. */
  readonly isProduct?: boolean;
}

/** A value that is quantized, and how. */
export interface ActivationSite {
  readonly value: ValueName;
  readonly format: ActivationFormat;
  /** How the levels of its grid lie. */
  readonly spacing: Spacing;
  /** The value comes out of an integer kernel: its float form does not exist at run time, so everybody reads the codes. */
  readonly isIntegerOutput: boolean;
  /** Values of which this one only selects elements: they should share its grid. */
  readonly selectedFrom: readonly ValueName[];
}

/**
 * Which values to quantize so that onnxruntime runs the layers in integers, and none besides: inputs of layers, what
 * leads up to them from integer outputs through operators that have integer kernels themselves, and the outputs of
 * convolutions, which have no kernel that returns floats.
 */
export function chooseActivations(
  graph: Graph,
  types: ValueTypes,
  demands: readonly ActivationDemand[],
): readonly ActivationSite[] {
  return new ActivationPlanner(graph, types, demands).plan();
}

class ActivationPlanner {
  readonly #graph: Graph;
  readonly #types: ValueTypes;
  readonly #demands: readonly ActivationDemand[];
  readonly #integerNodes: ReadonlySet<Node>;
  readonly #formats = new Map<ValueName, ActivationFormat>();
  readonly #selectedFrom = new Map<ValueName, readonly ValueName[]>();
  readonly #integerOutputs = new DecidedValues((value, known) => this.#decideInteger(value, known));
  readonly #allEightBits: boolean;
  readonly #productInputs: ReadonlySet<ValueName>;
  readonly #layerInputs: ReadonlySet<ValueName>;
  /** What nobody asked for but integer kernels between layers need: 8 bits, since it is about speed, not about size. */
  readonly #carrierFormat: ActivationFormat;

  constructor(graph: Graph, types: ValueTypes, demands: readonly ActivationDemand[]) {
    this.#graph = graph;
    this.#types = types;
    this.#demands = demands;
    this.#integerNodes = new Set(demands.map((demand) => demand.node));
    this.#productInputs = new Set(demands.filter(({ isProduct }) => isProduct).flatMap(({ values }) => values));
    this.#layerInputs = new Set(demands.filter(({ isProduct }) => !isProduct).flatMap(({ values }) => values));
    this.#carrierFormat = { bits: 8, symmetric: false, range: demands[0]?.format.range };
    // Sums, products and averages stay in float beside values below 8 bits: their operands would be rounded once more.
    this.#allEightBits = demands.every((demand) => demand.format.bits === 8);
  }

  plan(): readonly ActivationSite[] {
    for (const { values, format } of this.#demands) {
      for (const value of values) this.#want(value, format);
    }
    for (const { node } of this.#demands) {
      const carrier = behindActivation(this.#graph, node.outputs[0]);
      if (this.#isIntegerOutput(carrier) && !this.#formats.has(carrier)) this.#want(carrier, this.#carrierFormat);
    }
    return [...this.#formats].map(([value, format]) => ({
      value,
      format,
      spacing: this.#spacingOf(value, format),
      isIntegerOutput: this.#isIntegerOutput(value),
      selectedFrom: this.#selectedFrom.get(value) ?? [],
    }));
  }

  /** Shares that only products read, in fewer bits than an even grid would need for them. */
  #spacingOf(value: ValueName, { bits, softmax = "uniform" }: ActivationFormat): Spacing {
    if (softmax === "uniform" || bits === 8 || !holdsShares(this.#graph, value)) return "uniform";
    return this.#productInputs.has(value) && !this.#layerInputs.has(value) ? softmax : "uniform";
  }

  /** Quantizes a value, and what it is made of as far up as integer kernels reach. Works without recursion. */
  #want(first: ValueName, wished: ActivationFormat): void {
    const open = [{ value: first, format: wished }];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const { value, format } = next;
      const before = this.#formats.get(value);
      if (before && before.bits >= format.bits) continue;
      this.#formats.set(value, format);
      for (const above of this.#wantedAbove(value, format).toReversed()) open.push(above);
    }
  }

  #wantedAbove(
    value: ValueName,
    format: ActivationFormat,
  ): readonly { readonly value: ValueName; readonly format: ActivationFormat }[] {
    const origin = this.#originOf(value);
    if (origin === undefined) return [];
    // What is copied is quantized before, wherever it comes from.
    if (!this.#isIntegerOutput(value) && !duplicatesElements(origin, this.#graph)) return [];
    const selected = selectedInputs(origin, this.#graph);
    if (selected) {
      const usable = selected.filter((input) => this.#isFloatActivation(input));
      this.#selectedFrom.set(value, usable);
      return usable.map((input) => ({ value: input, format }));
    }
    return (this.#computed(origin) ?? []).map((input) => ({ value: input, format: this.#carrierFormat }));
  }

  /** Whether a value can come out of an integer kernel. */
  #isIntegerOutput(value: ValueName): boolean {
    return this.#integerOutputs.of(value);
  }

  #decideInteger(...[value, known]: Parameters<DecisionRule>): ReturnType<DecisionRule> {
    const origin = this.#originOf(value);
    // A float16 value passes a Cast on its way to and from the codes, which integer kernels do not look through.
    if (origin === undefined || this.#graph.isOutput(value)) return false;
    if (elementTypeOf(this.#types, value) !== "float32") return false;
    if (isOperator(origin, "Conv")) return this.#integerNodes.has(origin);
    const selected = selectedInputs(origin, this.#graph);
    const above = selected ?? this.#computed(origin);
    if (above === undefined) return false;
    const open = above.filter((input) => known(input) === undefined);
    if (open.length > 0) return open;
    return selected ? above.some(known) : above.every(known);
  }

  #computed(node: Node): readonly ValueName[] | undefined {
    return this.#allEightBits ? computedInputs(node, this.#graph, this.#types) : undefined;
  }

  /** The node that computes a value, the Relu or Clip that an integer kernel takes over not counted. */
  #originOf(value: ValueName): Node | undefined {
    const producer = this.#graph.producer(value);
    if (!isOperator(producer, "Relu", "Clip")) return producer;
    const source = this.#graph.producer(producer.inputs[0]);
    const isFused = source !== undefined && behindActivation(this.#graph, producer.inputs[0]) === value;
    return isFused && (isOperator(source, "Conv") || this.#computed(source)) ? source : producer;
  }

  #isFloatActivation(value: ValueName): boolean {
    const type = elementTypeOf(this.#types, value);
    return (type === "float32" || type === "float16") && !this.#graph.initializers.has(value);
  }
}
