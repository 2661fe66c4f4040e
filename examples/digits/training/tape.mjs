import { makeNode } from "../../../dist/graph/node.js";
import { float32Tensor, int64Tensor } from "../../../dist/tensor/tensor.js";

/** @typedef {string} Value name of a value in the graph */

/**
 * Writes a network down as ONNX nodes and, for training, how gradients flow back through it: nodes as well, so that
 * onnxruntime computes both directions. Each operator adds its own part to the way back when it is written.
 */
export class Tape {
  nodes = [];
  /** Values besides the outputs that training fetches: mean and variance of each batch normalization. */
  statistics = /** @type {{ value: Value, parameter: string }[]} */ ([]);
  #isTraining;
  #parameters;
  #input;
  #wayBack = /** @type {(() => void)[]} */ ([]);
  #gradients = /** @type {Map<Value, Value[]>} */ (new Map());
  #uses = new Map();

  /**
   * @param {Value} input the network's input, which no gradient is computed for
   * @param {import("./parameters.mjs").Parameters} parameters
   * @param {boolean} isTraining
   */
  constructor(input, parameters, isTraining) {
    this.#input = input;
    this.#parameters = parameters;
    this.#isTraining = isTraining;
  }

  get isTraining() {
    return this.#isTraining;
  }

  /**
   * Adds a node named as PyTorch's exporter names it: `/` and the path, the operator, a number where it is not the first.
   *
   * @returns {Value} its first output, or all of them where more than one is asked for
   */
  node(path, opType, inputs, attributes = {}, outputCount = 1) {
    const base = `/${path.replaceAll(".", "/")}/${opType}`;
    const use = this.#uses.get(base) ?? 0;
    this.#uses.set(base, use + 1);
    const name = use === 0 ? base : `${base}_${use}`;
    const outputs = Array.from({ length: outputCount }, (_, i) => `${name}_output_${i}`);
    this.nodes.push(makeNode(opType, inputs, outputs, attributes, name));
    return outputCount === 1 ? outputs[0] : outputs;
  }

  /** A number as a `Constant` node. */
  number(path, value) {
    return this.node(path, "Constant", [], { value: float32Tensor([], [value]) });
  }

  /** Whole numbers, such as a shape or axes, as a `Constant` node. */
  integers(path, values) {
    return this.node(path, "Constant", [], { value: int64Tensor([values.length], values) });
  }

  /** A whole number without a dimension, as `Gather` needs it to take the axis away. */
  integer(path, value) {
    return this.node(path, "Constant", [], { value: int64Tensor([], [value]) });
  }

  /** A trained parameter, created on first use. */
  parameter(name, shape, initialize) {
    return this.#parameters.require(name, shape, initialize, true);
  }

  /** A parameter that training measures and no gradient changes. */
  measured(name, shape, initialize) {
    return this.#parameters.require(name, shape, initialize, false);
  }

  /** Says how an operator passes its gradient on. Runs from the last operator to the first; not outside training. */
  onWayBack(pass) {
    if (this.#isTraining) this.#wayBack.push(pass);
  }

  /** Adds a node to the way back. */
  back(opType, inputs, attributes = {}) {
    return this.node("gradient", opType, inputs, attributes);
  }

  /** One reader's contribution to a value's gradient. It is not even computed for the network's input. */
  addGradient(value, contribute) {
    if (value === this.#input) return;
    const contributions = this.#gradients.get(value) ?? [];
    contributions.push(contribute());
    this.#gradients.set(value, contributions);
  }

  /** The sum of what all readers of a value contributed. */
  gradientOf(value) {
    const contributions = this.#gradients.get(value);
    if (!contributions) throw new Error(`no gradient reaches ${value}`);
    const sum = contributions.reduce((total, next) => this.back("Add", [total, next]));
    this.#gradients.set(value, [sum]);
    return sum;
  }

  /** Writes the way back; from then on `gradientOf` answers for parameters too. */
  goBack() {
    for (const pass of this.#wayBack.reverse()) pass();
  }
}
