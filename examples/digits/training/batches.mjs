import { float32Tensor } from "../../../dist/tensor/tensor.js";
import { preprocessing } from "../data.mjs";

const size = 28;
const centre = (size - 1) / 2;

/** Digits as a model reads them, `[N, 1, 28, 28]`. */
export function toPixels(/** @type {readonly import("../data.mjs").Digit[]} */ digits) {
  const values = new Float32Array(digits.length * size * size);
  digits.forEach((digit, i) => {
    digit.pixels.forEach((grey, j) => {
      values[i * size * size + j] = normalize(grey);
    });
  });
  return float32Tensor([digits.length, 1, size, size], values);
}

/** Digits as a model reads them, each turned, stretched, slanted and shifted a little. */
export function toAugmentedPixels(digits, random) {
  const values = new Float32Array(digits.length * size * size);
  digits.forEach((digit, i) => {
    const between = (low, high) => low + (high - low) * random();
    const angle = between(-0.2, 0.2);
    const width = between(0.88, 1.12);
    const height = between(0.88, 1.12);
    const slant = between(-0.15, 0.15);
    const right = between(-2, 2);
    const down = between(-2, 2);
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        const turnedX = Math.cos(angle) * (x - centre - right) - Math.sin(angle) * (y - centre - down);
        const turnedY = Math.sin(angle) * (x - centre - right) + Math.cos(angle) * (y - centre - down);
        const grey = greyAt(digit.pixels, turnedX * width + turnedY * slant + centre, turnedY * height + centre);
        values[(i * size + y) * size + x] = normalize(grey);
      }
    }
  });
  return float32Tensor([digits.length, 1, size, size], values);
}

/** The wanted probabilities, `[N, 10]`: 1 for the label, 0 for the other classes. */
export function toTargets(/** @type {readonly import("../data.mjs").Digit[]} */ digits) {
  const values = new Float32Array(digits.length * 10);
  digits.forEach((digit, i) => {
    values[i * 10 + digit.label] = 1;
  });
  return float32Tensor([digits.length, 10], values);
}

function normalize(grey) {
  return (grey * preprocessing.rescale - preprocessing.mean) / preprocessing.std;
}

/** The grey value between pixels, bilinear; paper beyond the edge. */
function greyAt(pixels, x, y) {
  const left = Math.floor(x);
  const top = Math.floor(y);
  const at = (column, row) =>
    column < 0 || row < 0 || column >= size || row >= size ? 0 : pixels[row * size + column];
  const upper = at(left, top) * (left + 1 - x) + at(left + 1, top) * (x - left);
  const lower = at(left, top + 1) * (left + 1 - x) + at(left + 1, top + 1) * (x - left);
  return upper * (top + 1 - y) + lower * (y - top);
}
