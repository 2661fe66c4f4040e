/** Operators without parameters, each with its gradient. `dy` is the gradient of an operator's output `y`. */

export function relu(tape, path, x) {
  const y = tape.node(path, "Relu", [x]);
  tape.onWayBack(() => {
    const isPositive = tape.back("Greater", [y, tape.number("gradient", 0)]);
    const slope = tape.back("Cast", [isPositive], { to: 1 });
    tape.addGradient(x, () => tape.back("Mul", [tape.gradientOf(y), slope]));
  });
  return y;
}

/** GELU with the error function, in the five operators that exporters decompose it into. */
export function gelu(tape, path, x) {
  const quotient = tape.node(path, "Div", [x, tape.number(path, Math.SQRT2)]);
  const error = tape.node(path, "Erf", [quotient]);
  const risen = tape.node(path, "Add", [error, tape.number(path, 1)]);
  const product = tape.node(path, "Mul", [x, risen]);
  const y = tape.node(path, "Mul", [product, tape.number(path, 0.5)]);
  tape.onWayBack(() => {
    // d/dx x·Φ(x) = Φ(x) + x·φ(x), with φ(x) = exp(-x²/2) / √(2π)
    const power = tape.back("Exp", [tape.back("Neg", [tape.back("Mul", [quotient, quotient])])]);
    const weighted = tape.back("Mul", [
      tape.back("Mul", [x, power]),
      tape.number("gradient", 1 / Math.sqrt(2 * Math.PI)),
    ]);
    const cumulative = tape.back("Mul", [risen, tape.number("gradient", 0.5)]);
    const slope = tape.back("Add", [cumulative, weighted]);
    tape.addGradient(x, () => tape.back("Mul", [tape.gradientOf(y), slope]));
  });
  return y;
}

/** The sum of two values of the same shape. */
export function add(tape, path, a, b) {
  const y = tape.node(path, "Add", [a, b]);
  tape.onWayBack(() => {
    const dy = tape.gradientOf(y);
    tape.addGradient(a, () => dy);
    tape.addGradient(b, () => dy);
  });
  return y;
}

/** A value times a number. */
export function scale(tape, path, x, factor) {
  const y = tape.node(path, "Mul", [x, tape.number(path, factor)]);
  tape.onWayBack(() => {
    tape.addGradient(x, () => tape.back("Mul", [tape.gradientOf(y), tape.number("gradient", factor)]));
  });
  return y;
}

/** The matrix products of two stacks of matrices, `[batch, heads, rows, columns]`. */
export function matMul(tape, path, a, b) {
  const y = tape.node(path, "MatMul", [a, b]);
  tape.onWayBack(() => {
    const dy = tape.gradientOf(y);
    const transposed = (value) => tape.back("Transpose", [value], { perm: [0, 1, 3, 2] });
    tape.addGradient(a, () => tape.back("MatMul", [dy, transposed(b)]));
    tape.addGradient(b, () => tape.back("MatMul", [transposed(a), dy]));
  });
  return y;
}

/** Softmax over the last axis. */
export function softmax(tape, path, x) {
  const y = tape.node(path, "Softmax", [x], { axis: -1 });
  tape.onWayBack(() => {
    const weighted = tape.back("Mul", [tape.gradientOf(y), y]);
    const total = tape.back("ReduceSum", [weighted, tape.integers("gradient", [-1])], { keepdims: 1 });
    tape.addGradient(x, () => tape.back("Sub", [weighted, tape.back("Mul", [y, total])]));
  });
  return y;
}

/** @param {readonly number[]} shape 0 keeps a size, -1 takes the rest */
export function reshape(tape, path, x, shape) {
  const y = tape.node(path, "Reshape", [x, tape.integers(path, shape)]);
  tape.onWayBack(() => {
    tape.addGradient(x, () => tape.back("Reshape", [tape.gradientOf(y), tape.back("Shape", [x])]));
  });
  return y;
}

/** @param {readonly number[]} perm */
export function transpose(tape, path, x, perm) {
  const y = tape.node(path, "Transpose", [x], { perm });
  const inverse = perm.map((_, axis) => perm.indexOf(axis));
  tape.onWayBack(() => {
    tape.addGradient(x, () => tape.back("Transpose", [tape.gradientOf(y)], { perm: inverse }));
  });
  return y;
}

/** The slices of a value along its first axis, which has `count` of them. */
export function unstack(tape, path, x, count) {
  const slices = Array.from({ length: count }, (_, i) =>
    tape.node(path, "Gather", [x, tape.integer(path, i)], { axis: 0 }),
  );
  tape.onWayBack(() => {
    const first = tape.integers("gradient", [0]);
    const gradients = slices.map((slice) => tape.back("Unsqueeze", [tape.gradientOf(slice), first]));
    tape.addGradient(x, () => tape.back("Concat", gradients, { axis: 0 }));
  });
  return slices;
}

/** The mean of each channel of `[batch, channels, height, width]`, as `[batch, channels]`. */
export function poolGlobally(tape, path, x) {
  const mean = tape.node(path, "GlobalAveragePool", [x]);
  const y = tape.node(path, "Flatten", [mean], { axis: 1 });
  tape.onWayBack(() => {
    const spread = tape.back("Unsqueeze", [tape.gradientOf(y), tape.integers("gradient", [2, 3])]);
    tape.addGradient(x, () => spreadMean(tape, x, spread));
  });
  return y;
}

/** The mean of all tokens of `[batch, tokens, features]`, as `[batch, features]`. */
export function meanOfTokens(tape, path, x) {
  const y = tape.node(path, "ReduceMean", [x], { axes: [1], keepdims: 0 });
  tape.onWayBack(() => {
    const spread = tape.back("Unsqueeze", [tape.gradientOf(y), tape.integers("gradient", [1])]);
    tape.addGradient(x, () => spreadMean(tape, x, spread));
  });
  return y;
}

/** Everything that a mean was taken of gets the same share of its gradient. */
function spreadMean(tape, x, gradient) {
  const count = tape.back("Div", [tape.back("Size", [x]), tape.back("Size", [gradient])]);
  const share = tape.back("Div", [gradient, tape.back("Cast", [count], { to: 1 })]);
  return tape.back("Expand", [share, tape.back("Shape", [x])]);
}
