import { float32Tensor } from "../../../dist/tensor/tensor.js";
import { createRandom, normal } from "../random.mjs";

/**
 * @typedef {object} Parameter
 * @property {readonly number[]} shape
 * @property {Float32Array} values
 * @property {boolean} isTrained false for running statistics
 */

/** What a network learns, by the names that the model file uses. */
export class Parameters {
  /** @type {Map<string, Parameter>} */
  byName = new Map();
  #random;

  constructor(seed) {
    this.#random = createRandom(seed);
  }

  /**
   * The parameter's name, after it has been created if this is the first time that somebody asks for it.
   *
   * @param {string} name
   * @param {readonly number[]} shape
   * @param {(random: () => number) => number} initialize gives each value
   * @param {boolean} isTrained
   */
  require(name, shape, initialize, isTrained) {
    if (!this.byName.has(name)) {
      const count = shape.reduce((product, size) => product * size, 1);
      const values = Float32Array.from({ length: count }, () => initialize(this.#random));
      this.byName.set(name, { shape, values, isTrained });
    }
    return name;
  }

  get trained() {
    return [...this.byName].filter(([, parameter]) => parameter.isTrained);
  }

  /** As tensors for a run or a file. */
  tensors(only = () => true) {
    const chosen = [...this.byName].filter(([, parameter]) => only(parameter));
    return new Map(chosen.map(([name, { shape, values }]) => [name, float32Tensor(shape, values)]));
  }
}

export const zeros = () => 0;
export const ones = () => 1;

/** Normally distributed with the given deviation. */
export const gaussian = (deviation) => (random) => deviation * normal(random);
