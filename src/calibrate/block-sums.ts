import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { addSums, type PairSums } from "../math/ridge.js";
import { float32Tensor, float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { type CorrectedBlock, columnsOf, keyOf, tapsOf, writeBlockRows } from "./block-rows.js";
import { writeLogarithm } from "./curve.js";
import { bytesOfNumbers, malformed, numbersOfBytes } from "./encoding.js";
import { HalvedSums } from "./halved-sums.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** In which space input and error are looked at: units of a signed logarithm, nothing for values as they are. */
export interface Curves {
  readonly input?: number;
  readonly error?: number;
}

/** How a block's error goes together with what enters it. */
export interface BlockSums {
  readonly kind: "sums";
  /** How many rows there were. */
  readonly rows: number;
  /** For each of the curves: over the one and over the other half of the runs; nothing for a half without any. */
  readonly halves: readonly (readonly (PairSums | undefined)[])[];
  /** Mean squares of input, error and target. */
  readonly squares: { readonly input: number; readonly error: number; readonly target: number };
  /** Mean fourth power over the square of the mean square: 3 for normal, large where few elements rule. */
  readonly kurtosis: { readonly input: number; readonly error: number };
  /** The largest error of each channel. `[O]` */
  readonly largest: Float32Array;
}

/** Sums for a regression of a block's error on its input, in one pass for several curves. */
export class BlockSumsStatistic implements Statistic<BlockSums> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #site: CorrectedBlock;
  readonly #curves: readonly Curves[];
  readonly #sums: readonly HalvedSums[];
  /** Rows; sums of squares of input, error and target; of fourth powers of input and error. */
  #powers = new Float64Array(6);
  #largest: Float64Array;

  constructor(site: CorrectedBlock, curves: readonly Curves[]) {
    this.key = `block sums ${keyOf(site)} ${JSON.stringify(curves)}`;
    this.taps = tapsOf(site);
    this.#site = site;
    this.#curves = curves;
    this.#sums = curves.map(() => new HalvedSums());
    this.#largest = new Float64Array(site.outputChannels);
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    const writer = new ProbeWriter(names, opset);
    const rows = writeBlockRows(writer, taps, this.#site);
    const errors = writer.node("Sub", [rows.targets, rows.outputs]);
    const sum = (value: ValueName) => writer.node("ReduceSum", [value], { keepdims: 0 });
    const square = (value: ValueName) => writer.node("Mul", [value, value]);
    const [inputSquares, errorSquares] = [rows.inputs, errors].map(square);
    const powers = [
      ...[inputSquares, errorSquares, square(rows.targets)].map(sum),
      ...[inputSquares, errorSquares].map((squares) => sum(square(squares))),
    ];
    // Of no rows there is no largest; a row of zeros changes nothing.
    const zeros = writer.constant(
      float32Tensor([1, this.#site.outputChannels], new Float32Array(this.#site.outputChannels)),
    );
    const sizes = writer.node("Concat", [writer.node("Abs", [errors]), zeros], { axis: 0 });
    const largest = writer.largestOfColumns(sizes);
    const sums = this.#curves.flatMap(({ input, error }) =>
      writePairSums(
        writer,
        input === undefined ? rows.inputs : writeLogarithm(writer, rows.inputs, input),
        error === undefined ? errors : writeLogarithm(writer, errors, error),
        rows.weights,
      ),
    );
    return writer.finish([rows.count, ...powers, largest, ...sums]);
  }

  update([count, ...outputs]: readonly Tensor[]): void {
    const rows = integerValues(count)[0];
    // The runtime's products of matrices without rows hold whatever was in its memory.
    if (rows === 0) return;
    const values = outputs.map(float32Values);
    this.#addPowers([rows, ...values.slice(0, 5).map(([value]) => value)]);
    this.#raiseLargest(values[5]);
    for (const [i, sums] of this.#sums.entries()) sums.add(uncentre(values.slice(6 + 8 * i, 14 + 8 * i)));
  }

  merge(other: Statistic<BlockSums>): void {
    if (!(other instanceof BlockSumsStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    this.#addPowers(other.#powers);
    this.#raiseLargest(other.#largest);
    for (const [i, sums] of this.#sums.entries()) sums.merge(other.#sums[i]);
  }

  encode(): Uint8Array {
    const sums = this.#sums.map((one) => one.encode());
    return bytesOfNumbers([...this.#powers, ...this.#largest, ...sums.flatMap((one) => [one.length, ...one])]);
  }

  mergeEncoded(encoded: Uint8Array): void {
    const numbers = numbersOfBytes(encoded);
    const parts: Float64Array[] = [];
    let place = this.#powers.length + this.#largest.length;
    for (let i = 0; i < this.#curves.length; i++) {
      const end = place + 1 + (numbers[place] ?? Number.NaN);
      if (!(end > place && end <= numbers.length)) throw malformed("are no sums over a block");
      parts.push(numbers.subarray(place + 1, end));
      place = end;
    }
    if (place !== numbers.length) throw malformed("are no sums over a block");
    for (const [i, sums] of this.#sums.entries()) sums.mergeEncoded(parts[i]);
    this.#addPowers(numbers.subarray(0, this.#powers.length));
    this.#raiseLargest(numbers.subarray(this.#powers.length, this.#powers.length + this.#largest.length));
  }

  result(): BlockSums {
    const [rows, inputs, errors, targets, inputFourth, errorFourth] = this.#powers;
    const { outputChannels } = this.#site;
    const columns = columnsOf(this.#site);
    const [inputCount, outputCount] = [Math.max(rows * columns, 1), Math.max(rows * outputChannels, 1)];
    const squares = { input: inputs / inputCount, error: errors / outputCount, target: targets / outputCount };
    return {
      kind: "sums",
      rows,
      halves: this.#sums.map(({ halves }) => halves.map((half) => pairSumsOf(half, columns, outputChannels))),
      squares,
      kurtosis: {
        input: squares.input > 0 ? inputFourth / inputCount / squares.input ** 2 : 0,
        error: squares.error > 0 ? errorFourth / outputCount / squares.error ** 2 : 0,
      },
      largest: Float32Array.from(this.#largest),
    };
  }

  #addPowers(powers: ArrayLike<number>): void {
    this.#powers = this.#powers.map((sum, i) => sum + powers[i]);
  }

  #raiseLargest(sizes: ArrayLike<number>): void {
    this.#largest = this.#largest.map((size, i) => Math.max(size, sizes[i]));
  }
}

/** Both halves together. */
export function totalOf(halves: readonly (PairSums | undefined)[]): PairSums | undefined {
  const [one, other] = halves;
  return one === undefined || other === undefined ? (one ?? other) : addSums(one, other);
}

/**
 * Sums about the means of a run, so that float32 does not lose deviations beside a large mean: the weight, the means of
 * inputs and errors, the sums of deviations from them, and their products.
 */
function writePairSums(writer: ProbeWriter, inputs: ValueName, errors: ValueName, weights: ValueName) {
  const multiplied = (left: ValueName, right: ValueName) => writer.node("Gemm", [left, right], { transA: 1 });
  const weight = writer.node("ReduceSum", [weights], { keepdims: 0 });
  const means = [inputs, errors].map((rows) => writer.node("Div", [multiplied(weights, rows), weight]));
  const [x, e] = [inputs, errors].map((rows, i) => writer.node("Sub", [rows, means[i]]));
  const weighed = [x, e].map((rows) => writer.node("Mul", [rows, weights]));
  return [
    weight,
    ...means,
    ...[x, e].map((rows) => multiplied(weights, rows)),
    multiplied(weighed[0], x),
    multiplied(weighed[1], x),
    multiplied(weights, writer.node("Mul", [e, e])),
  ];
}

/** Sums about zero, one behind the other: weight, x, e, xx, ex, ee. In float64 nothing is lost. */
function uncentre(values: readonly Float32Array[]): Float64Array {
  const [[weight], meanX, meanE, x, e, xx, ex, ee] = values;
  const [columns, outputs] = [meanX.length, meanE.length];
  const sums = new Float64Array(1 + columns + outputs + columns * columns + outputs * columns + outputs);
  let place = 0;
  const put = (value: number) => {
    sums[place++] = value;
  };
  put(weight);
  for (let i = 0; i < columns; i++) put(x[i] + weight * meanX[i]);
  for (let i = 0; i < outputs; i++) put(e[i] + weight * meanE[i]);
  const putProducts = (products: Float32Array, own: Float32Array, means: Float32Array) => {
    for (let i = 0; i < means.length; i++) {
      for (let j = 0; j < columns; j++) {
        put(products[i * columns + j] + means[i] * x[j] + own[i] * meanX[j] + weight * means[i] * meanX[j]);
      }
    }
  };
  putProducts(xx, x, meanX);
  putProducts(ex, e, meanE);
  for (let i = 0; i < outputs; i++) put(ee[i] + 2 * meanE[i] * e[i] + weight * meanE[i] ** 2);
  return sums;
}

function pairSumsOf(sums: Float64Array, columns: number, outputs: number): PairSums | undefined {
  if (sums.length === 0) return undefined;
  let place = 1;
  const take = (length: number) => {
    place += length;
    return sums.slice(place - length, place);
  };
  return {
    weight: sums[0],
    x: take(columns),
    e: take(outputs),
    xx: take(columns * columns),
    ex: take(outputs * columns),
    ee: take(outputs),
  };
}
