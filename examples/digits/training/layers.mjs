/** Operators with parameters, each with its gradient. `dy` is the gradient of an operator's output `y`. */
import { gaussian, ones, zeros } from "./parameters.mjs";

/**
 * A convolution without bias, padded so that stride 1 keeps the size.
 *
 * @param {{ from: number, to: number, size: number, stride?: number }} options channels in and out, kernel size
 */
export function conv(tape, path, x, { from, to, size, stride = 1 }) {
  const weight = tape.parameter(
    `${path}.weight`,
    [to, from, size, size],
    gaussian(Math.sqrt(2 / (from * size * size))),
  );
  const isPatch = size === stride;
  const pads = Array(4).fill(isPatch ? 0 : (size - 1) / 2);
  const shape = { kernel_shape: [size, size], strides: [stride, stride], pads };
  const y = tape.node(path, "Conv", [x, weight], { dilations: [1, 1], group: 1, ...shape });
  tape.onWayBack(() => {
    const dy = tape.gradientOf(y);
    // The sizes are even: with stride 2 the last row and column begin a window that does not fit.
    const rest = isPatch ? 0 : stride - 1;
    tape.addGradient(x, () => tape.back("ConvTranspose", [dy, weight], { ...shape, output_padding: [rest, rest] }));
    // Each weight is the product sum of the input and `dy` shifted against each other: a convolution in which batch and
    // channels change places, and in which the windows' stride becomes the distance of the kernel's elements.
    tape.addGradient(weight, () => {
      const swapped = [x, dy].map((value) => tape.back("Transpose", [value], { perm: [1, 0, 2, 3] }));
      const sums = tape.back("Conv", swapped, { dilations: [stride, stride], pads });
      const window = [
        [0, 0],
        [size, size],
        [2, 3],
      ].map((values) => tape.integers("gradient", values));
      return tape.back("Transpose", [tape.back("Slice", [sums, ...window])], { perm: [1, 0, 2, 3] });
    });
  });
  return y;
}

/** Share of the running statistics that a batch replaces. */
export const statisticsMomentum = 0.05;
const batchNormEpsilon = 1e-5;

/** Normalization per channel: by the batch's own statistics in training, by the measured ones in the model file. */
export function batchNorm(tape, path, x, channels) {
  const scale = tape.parameter(`${path}.weight`, [channels], ones);
  const bias = tape.parameter(`${path}.bias`, [channels], zeros);
  const mean = tape.measured(`${path}.running_mean`, [channels], zeros);
  const variance = tape.measured(`${path}.running_var`, [channels], ones);
  if (!tape.isTraining) {
    const epsilon = { kind: "float", value: batchNormEpsilon };
    return tape.node(path, "BatchNormalization", [x, scale, bias, mean, variance], { epsilon });
  }
  const axes = [0, 2, 3];
  const toChannels = (value) => tape.node(path, "Reshape", [value, tape.integers(path, [channels, 1, 1])]);
  const toVector = (value) => tape.node(path, "Reshape", [value, tape.integers(path, [channels])]);
  const batchMean = tape.node(path, "ReduceMean", [x], { axes });
  const centered = tape.node(path, "Sub", [x, batchMean]);
  const batchVariance = tape.node(path, "ReduceMean", [tape.node(path, "Mul", [centered, centered])], { axes });
  const shifted = tape.node(path, "Add", [batchVariance, tape.number(path, batchNormEpsilon)]);
  const inverse = tape.node(path, "Reciprocal", [tape.node(path, "Sqrt", [shifted])]);
  const normalized = tape.node(path, "Mul", [centered, inverse]);
  const scaled = tape.node(path, "Mul", [normalized, toChannels(scale)]);
  const y = tape.node(path, "Add", [scaled, toChannels(bias)]);
  tape.statistics.push({ value: toVector(batchMean), parameter: mean });
  tape.statistics.push({ value: toVector(batchVariance), parameter: variance });
  tape.onWayBack(() => {
    const dy = tape.gradientOf(y);
    const axesInput = tape.integers("gradient", axes);
    tape.addGradient(bias, () => tape.back("ReduceSum", [dy, axesInput], { keepdims: 0 }));
    const product = tape.back("Mul", [dy, normalized]);
    tape.addGradient(scale, () => tape.back("ReduceSum", [product, axesInput], { keepdims: 0 }));
    tape.addGradient(x, () => {
      const meanProduct = tape.back("ReduceMean", [product], { axes });
      const meanGradient = tape.back("ReduceMean", [dy], { axes });
      const along = tape.back("Mul", [normalized, meanProduct]);
      const across = tape.back("Sub", [tape.back("Sub", [dy, meanGradient]), along]);
      return tape.back("Mul", [across, tape.back("Mul", [inverse, toChannels(scale)])]);
    });
  });
  return y;
}

const layerNormEpsilon = 1e-6;

/** Normalization of each token over its features. */
export function layerNorm(tape, path, x, features) {
  const scale = tape.parameter(`${path}.weight`, [features], ones);
  const bias = tape.parameter(`${path}.bias`, [features], zeros);
  const attributes = { axis: -1, epsilon: { kind: "float", value: layerNormEpsilon } };
  if (!tape.isTraining) return tape.node(path, "LayerNormalization", [x, scale, bias], attributes);
  const [y, mean, inverse] = tape.node(path, "LayerNormalization", [x, scale, bias], attributes, 3);
  tape.onWayBack(() => {
    const dy = tape.gradientOf(y);
    const normalized = tape.back("Mul", [tape.back("Sub", [x, mean]), inverse]);
    const leading = tape.integers("gradient", [0, 1]);
    tape.addGradient(bias, () => tape.back("ReduceSum", [dy, leading], { keepdims: 0 }));
    tape.addGradient(scale, () =>
      tape.back("ReduceSum", [tape.back("Mul", [dy, normalized]), leading], { keepdims: 0 }),
    );
    tape.addGradient(x, () => {
      const scaled = tape.back("Mul", [dy, scale]);
      const meanScaled = tape.back("ReduceMean", [scaled], { axes: [-1] });
      const meanProduct = tape.back("ReduceMean", [tape.back("Mul", [scaled, normalized])], { axes: [-1] });
      const along = tape.back("Mul", [normalized, meanProduct]);
      return tape.back("Mul", [tape.back("Sub", [tape.back("Sub", [scaled, meanScaled]), along]), inverse]);
    });
  });
  return y;
}

/** A linear layer on `[batch, tokens, from]`: `MatMul` with a `[from, to]` weight, then `Add`. */
export function linear(tape, path, x, from, to) {
  const weight = tape.parameter(`${path}.weight`, [from, to], gaussian(Math.sqrt(2 / (from + to))));
  const bias = tape.parameter(`${path}.bias`, [to], zeros);
  const product = tape.node(path, "MatMul", [x, weight]);
  const y = tape.node(path, "Add", [bias, product]);
  tape.onWayBack(() => {
    const dy = tape.gradientOf(y);
    tape.addGradient(bias, () => tape.back("ReduceSum", [dy, tape.integers("gradient", [0, 1])], { keepdims: 0 }));
    tape.addGradient(weight, () => {
      const rows = (value, features) => tape.back("Reshape", [value, tape.integers("gradient", [-1, features])]);
      return tape.back("Gemm", [rows(x, from), rows(dy, to)], { transA: 1 });
    });
    tape.addGradient(x, () => tape.back("MatMul", [dy, tape.back("Transpose", [weight], { perm: [1, 0] })]));
  });
  return y;
}

/** A linear layer on `[batch, from]`: `Gemm` with a `[to, from]` weight. */
export function gemm(tape, path, x, from, to) {
  const weight = tape.parameter(`${path}.weight`, [to, from], gaussian(Math.sqrt(1 / from)));
  const bias = tape.parameter(`${path}.bias`, [to], zeros);
  const y = tape.node(path, "Gemm", [x, weight, bias], { transB: 1 });
  tape.onWayBack(() => {
    const dy = tape.gradientOf(y);
    tape.addGradient(bias, () => tape.back("ReduceSum", [dy, tape.integers("gradient", [0])], { keepdims: 0 }));
    tape.addGradient(weight, () => tape.back("Gemm", [dy, x], { transA: 1 }));
    tape.addGradient(x, () => tape.back("MatMul", [dy, weight]));
  });
  return y;
}

/** Adds a learned vector to each token of `[batch, tokens, features]`. */
export function positionEmbedding(tape, path, x, tokens, features) {
  const embedding = tape.parameter(path, [1, tokens, features], gaussian(0.02));
  const y = tape.node(path, "Add", [x, embedding]);
  tape.onWayBack(() => {
    const dy = tape.gradientOf(y);
    tape.addGradient(embedding, () => tape.back("ReduceSum", [dy, tape.integers("gradient", [0])], { keepdims: 1 }));
    tape.addGradient(x, () => dy);
  });
  return y;
}
