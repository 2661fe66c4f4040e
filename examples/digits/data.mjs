/**
 * The handwritten digits of the example and how they are divided. As a program, writes what the command line reads:
 *
 *     node data.mjs FOLDER     calib_images.npy, val_images.npy (uint8 [N, 28, 28, 1]), val_labels.npy (int64 [N])
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { endianness } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { createRandom, shuffle } from "./random.mjs";

/**
 * @typedef {object} Digit
 * @property {Uint8Array} pixels 28 rows of 28 grey values, 0 for paper and 255 for ink
 * @property {number} label
 *
 * @typedef {object} Split
 * @property {readonly Digit[]} training   what the models are trained on
 * @property {readonly Digit[]} watched    kept out of training to watch it
 * @property {readonly Digit[]} calibration for quantization; seen by no training
 * @property {readonly Digit[]} evaluation for accuracy, as many of each class; seen by no training
 */

const evaluationPerClass = 200;
const calibrationCount = 512;
const watchedCount = 488;
const seed = 20240229;

/** How a grey value becomes what the models read: (value / 255 - mean) / std. Mean and deviation of MNIST's pixels. */
export const preprocessing = { rescale: 1 / 255, mean: 0.1307, std: 0.3081 };

/** All 10,000 digits in parts that share none. The same parts on every call and on every machine. */
export function readSplit() {
  const random = createRandom(seed);
  /** @type {Digit[]} */
  const evaluation = [];
  /** @type {Digit[]} */
  const rest = [];
  for (let label = 0; label < 10; label++) {
    const digits = shuffle(readDigits(label), random);
    evaluation.push(...digits.slice(0, evaluationPerClass));
    rest.push(...digits.slice(evaluationPerClass));
  }
  const mixed = shuffle(rest, random);
  return /** @type {Split} */ ({
    calibration: mixed.slice(0, calibrationCount),
    watched: mixed.slice(calibrationCount, calibrationCount + watchedCount),
    training: mixed.slice(calibrationCount + watchedCount),
    evaluation: shuffle(evaluation, random),
  });
}

/** Writes calibration and evaluation digits into a folder and returns the paths of the three files. */
export function writeArrays(/** @type {string} */ folder) {
  const { calibration, evaluation } = readSplit();
  const paths = {
    calibrationImages: join(folder, "calib_images.npy"),
    evaluationImages: join(folder, "val_images.npy"),
    evaluationLabels: join(folder, "val_labels.npy"),
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(paths.calibrationImages, encodeNpy("|u1", [calibration.length, 28, 28, 1], joinPixels(calibration)));
  writeFileSync(paths.evaluationImages, encodeNpy("|u1", [evaluation.length, 28, 28, 1], joinPixels(evaluation)));
  const labels = BigInt64Array.from(evaluation, (digit) => BigInt(digit.label));
  writeFileSync(paths.evaluationLabels, encodeNpy("<i8", [evaluation.length], labels));
  return paths;
}

/** The package holds grey values as fractions rounded to three digits: times 255 and rounded they are the original bytes. */
function readDigits(/** @type {number} */ label) {
  const path = createRequire(import.meta.url).resolve(`mnist/src/digits/${label}.json`);
  const pixels = Uint8Array.from(JSON.parse(readFileSync(path, "utf8")).data, (grey) => Math.round(grey * 255));
  return Array.from({ length: pixels.length / 784 }, (_, i) => ({
    pixels: pixels.subarray(i * 784, (i + 1) * 784),
    label,
  }));
}

function joinPixels(/** @type {readonly Digit[]} */ digits) {
  const joined = new Uint8Array(digits.length * 784);
  digits.forEach((digit, i) => {
    joined.set(digit.pixels, i * 784);
  });
  return joined;
}

/**
 * The bytes of a NumPy file, format version 1.0: magic, length of the header, header padded to 64 bytes, elements.
 *
 * @param {string} descriptor NumPy's name of the element type
 * @param {readonly number[]} shape
 * @param {ArrayBufferView} elements row-major
 */
function encodeNpy(descriptor, shape, elements) {
  if (endianness() !== "LE") throw new Error("the elements would be written in the wrong byte order");
  const fields = `{'descr': '${descriptor}', 'fortran_order': False, 'shape': (${shape.join(", ")},), }`;
  const header = `${fields.padEnd(Math.ceil((fields.length + 11) / 64) * 64 - 11)}\n`;
  const head = Buffer.from(`\x93NUMPY\x01\x00..${header}`, "latin1");
  head.writeUInt16LE(header.length, 8);
  return Buffer.concat([head, new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength)]);
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const folder = process.argv[2];
  if (!folder) throw new Error("give the folder to write to: node data.mjs FOLDER");
  for (const path of Object.values(writeArrays(folder))) console.log(path);
}
