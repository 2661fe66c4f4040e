import type { Picture } from "./picture.js";
import type { Extent, Filter } from "./preprocess.js";

/**
 * Resizes a picture and gives the very bytes that PIL gives: models were trained on its pixels, filters are widened when
 * a picture shrinks, and the same picture is the same on every machine.
 *
 * @see https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c
 */
export function resamplePicture(picture: Picture, target: Extent, filter: Filter): Picture {
  if (picture.width === target.width && picture.height === target.height) return picture;
  if (filter === "nearest") return pickNearest(picture, target);
  const kernel = kernels[filter];
  const narrow = picture.width === target.width ? picture : resampleRows(picture, target.width, kernel);
  return narrow.height === target.height ? narrow : resampleColumns(narrow, target.height, kernel);
}

interface Kernel {
  /** Zero outside of −radius … radius. */
  readonly radius: number;
  weight(x: number): number;
}

const kernels: Readonly<Record<Exclude<Filter, "nearest">, Kernel>> = {
  box: { radius: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { radius: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: {
    radius: 1,
    weight: (x) => (Math.abs(x) >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x))),
  },
  bicubic: { radius: 2, weight: (x) => cubic(Math.abs(x)) },
  lanczos: { radius: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Keys' cubic with a = −1/2. */
function cubic(x: number): number {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** For every position of the result: where the source begins and how much each of its pixels counts. */
interface Taps {
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  /** `[positions, stride]`, in units of 2^-22. */
  readonly weights: Int32Array;
  readonly stride: number;
}

/** Fraction bits of a weight: 32 less 8 for the pixel and 2 for what kernels overshoot. */
const fractionBits = 22;
const half = 1 << (fractionBits - 1);

function planTaps(sourceSize: number, targetSize: number, kernel: Kernel): Taps {
  const scale = sourceSize / targetSize;
  const widening = Math.max(scale, 1);
  const radius = kernel.radius * widening;
  const stride = Math.ceil(radius) * 2 + 1;
  const starts = new Int32Array(targetSize);
  const counts = new Int32Array(targetSize);
  const weights = new Int32Array(targetSize * stride);
  for (let position = 0; position < targetSize; position++) {
    const center = (position + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - radius + 0.5));
    const end = Math.min(sourceSize, Math.trunc(center + radius + 0.5));
    const exact = Array.from({ length: end - start }, (_, i) => kernel.weight((start + i - center + 0.5) / widening));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    starts[position] = start;
    counts[position] = exact.length;
    for (const [i, weight] of exact.entries()) {
      // Rounded half away from zero.
      const share = (sum === 0 ? weight : weight / sum) * 2 ** fractionBits;
      weights[position * stride + i] = Math.trunc(share + (share < 0 ? -0.5 : 0.5));
    }
  }
  return { starts, counts, weights, stride };
}

function resampleRows(picture: Picture, width: number, kernel: Kernel): Picture {
  const { channels, height, pixels } = picture;
  const { starts, counts, weights, stride } = planTaps(picture.width, width, kernel);
  const result = new Uint8ClampedArray(width * height * channels);
  let target = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const row = (y * picture.width + starts[x]) * channels;
      const first = x * stride;
      // All three colors in one pass over the taps: twice as fast as one after the other.
      if (channels === 3) {
        let [red, green, blue] = [half, half, half];
        for (let tap = 0, source = row; tap < counts[x]; tap++, source += 3) {
          const weight = weights[first + tap];
          red += pixels[source] * weight;
          green += pixels[source + 1] * weight;
          blue += pixels[source + 2] * weight;
        }
        result[target++] = red >> fractionBits;
        result[target++] = green >> fractionBits;
        result[target++] = blue >> fractionBits;
      } else {
        let sum = half;
        for (let tap = 0; tap < counts[x]; tap++) sum += pixels[row + tap] * weights[first + tap];
        result[target++] = sum >> fractionBits;
      }
    }
  }
  return { width, height, channels, pixels: new Uint8Array(result.buffer) };
}

function resampleColumns(picture: Picture, height: number, kernel: Kernel): Picture {
  const { channels, width, pixels } = picture;
  const { starts, counts, weights, stride } = planTaps(picture.height, height, kernel);
  const rowLength = width * channels;
  const result = new Uint8ClampedArray(rowLength * height);
  const sums = new Int32Array(rowLength);
  for (let y = 0; y < height; y++) {
    sums.fill(half);
    for (let tap = 0; tap < counts[y]; tap++) {
      const weight = weights[y * stride + tap];
      const row = (starts[y] + tap) * rowLength;
      for (let i = 0; i < rowLength; i++) sums[i] += pixels[row + i] * weight;
    }
    for (let i = 0; i < rowLength; i++) result[y * rowLength + i] = sums[i] >> fractionBits;
  }
  return { width, height, channels, pixels: new Uint8Array(result.buffer) };
}

function pickNearest(picture: Picture, target: Extent): Picture {
  const { channels } = picture;
  const columns = nearestPositions(picture.width, target.width);
  const rows = nearestPositions(picture.height, target.height);
  const pixels = new Uint8Array(target.width * target.height * channels);
  let position = 0;
  for (const row of rows) {
    for (const column of columns) {
      const source = (row * picture.width + column) * channels;
      for (let channel = 0; channel < channels; channel++) pixels[position++] = picture.pixels[source + channel];
    }
  }
  return { width: target.width, height: target.height, channels, pixels };
}

function nearestPositions(sourceSize: number, targetSize: number): Int32Array {
  const step = sourceSize / targetSize;
  // Added up, as there: a product would round differently.
  let position = step / 2;
  return new Int32Array(targetSize).map(() => {
    const found = Math.min(Math.trunc(position), sourceSize - 1);
    position += step;
    return found;
  });
}
