const firstDecay = 0.9;
const secondDecay = 0.99;
const epsilon = 1e-8;

/**
 * AdamW: moves parameters against their gradients, each value by a step of its own, and shrinks weights.
 *
 * @see Loshchilov and Hutter, Decoupled Weight Decay Regularization, arXiv:1711.05101, Algorithm 2
 */
export class Adam {
  #weightDecay;
  #moments = new Map();
  #steps = 0;

  constructor(weightDecay) {
    this.#weightDecay = weightDecay;
  }

  /**
   * @param {[string, import("./parameters.mjs").Parameter][]} parameters changed in place
   * @param {Map<string, Float32Array>} gradients
   * @param {number} learningRate
   */
  step(parameters, gradients, learningRate) {
    this.#steps++;
    const firstBias = 1 - firstDecay ** this.#steps;
    const secondBias = 1 - secondDecay ** this.#steps;
    for (const [name, { shape, values }] of parameters) {
      const gradient = gradients.get(name);
      const { first, second } = this.#momentsOf(name, values.length);
      // Biases and the scales of normalizations are vectors: they are not to shrink.
      const shrink = shape.length > 1 ? 1 - learningRate * this.#weightDecay : 1;
      for (let i = 0; i < values.length; i++) {
        first[i] += (1 - firstDecay) * (gradient[i] - first[i]);
        second[i] += (1 - secondDecay) * (gradient[i] ** 2 - second[i]);
        const step = first[i] / firstBias / (Math.sqrt(second[i] / secondBias) + epsilon);
        values[i] = values[i] * shrink - learningRate * step;
      }
    }
  }

  #momentsOf(name, count) {
    const known = this.#moments.get(name);
    if (known) return known;
    const fresh = { first: new Float32Array(count), second: new Float32Array(count) };
    this.#moments.set(name, fresh);
    return fresh;
  }
}

/** Rises over the first steps, then falls to zero along half a cosine. */
export function learningRateAt(step, steps, highest) {
  const warmUp = Math.round(steps * 0.05);
  if (step < warmUp) return (highest * (step + 1)) / warmUp;
  return (highest * (1 + Math.cos((Math.PI * (step - warmUp)) / (steps - warmUp)))) / 2;
}
