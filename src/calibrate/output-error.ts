import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { digestOf } from "../math/digest.js";
import type { Limits } from "../operators/limits.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers, malformed, numbersOfBytes } from "./encoding.js";
import { HalvedSums } from "./halved-sums.js";
import { type OutputPair, pairKey, pairTaps, writePair } from "./output-pair.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";
import { type HeadToken, writePlaces, writeTokenCount, writeTokenWeights } from "./token-weights.js";

/** Where a layer's output stands and what follows it. */
export interface OutputSite extends OutputPair {
  /** Before any activation function. */
  readonly output: ValueName;
  /** Of the Relu or Clip behind it. */
  readonly limits?: Limits;
  readonly rank: number;
  /** Axis of the output channels, counted from the start. */
  readonly channelAxis: number;
  /** Lengths of all axes but the first, where every position of a channel counts for itself. */
  readonly positions?: readonly number[];
  /** Where the output has tokens on the axis before the last. */
  readonly token?: HeadToken;
}

/**
 * How the outputs of a layer differ between the float and the current network: per output channel, `[C]`, or per position
 * and channel, as `[C · H · W]` or `[T · C]` in the order of the output.
 */
export interface OutputErrorOfRuns {
  /** Elements per channel, or per position and channel; those of a token of the head as often as it counts. */
  readonly count: number;
  /** Mean squared difference behind the limits, with the trial bias in. */
  readonly squared: Float64Array;
  /**
   * What to add to the bias next. Without a trial: the mean of float minus current, limits left aside, which is the
   * best bias where there are none. With one: the mean of float minus current behind the limits over the elements of the
   * current network that they let through, which would bring the mean error to zero if no element crossed them.
   */
  readonly step: Float64Array;
}

export interface OutputError extends OutputErrorOfRuns {
  /** Of every other run, from the first and from the second on; without elements where there was none. */
  readonly halves: readonly OutputErrorOfRuns[];
}

/** The sums behind `OutputError`. */
export class OutputErrorStatistic implements Statistic<OutputError> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #site: OutputSite;
  readonly #trial: Float64Array | undefined;
  /** Elements; squared differences; differences; and with a trial how many elements the latter are the sum of. */
  readonly #sums = new HalvedSums();

  /** @param trial a bias to add to the current network's output, as long as what is found */
  constructor(site: OutputSite, trial?: Float64Array) {
    const place = `${pairKey(site)} ${site.positions === undefined ? "" : "by position "}`;
    const token = site.token === undefined ? "" : `token ${site.token.index} ${site.token.weight} `;
    this.key = `output error ${place}${token}${trial === undefined ? "" : digestOf(trial)}`;
    this.#site = site;
    this.#trial = trial;
    this.taps = pairTaps(site);
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    const { limits, rank, channelAxis, positions, token } = this.#site;
    const writer = new ProbeWriter(names, opset);
    const limit = (value: ValueName) => (limits === undefined ? value : writer.clip(value, limits.low, limits.high));
    const kept = positions === undefined ? [channelAxis] : positions.map((_, i) => i + 1);
    const [reference, plain] = writePair(writer, taps, this.#site);
    const weights = token === undefined ? undefined : writeWeights(writer, token, plain, rank);
    const sum = (value: ValueName) =>
      writer.sumExcept(weights === undefined ? value : writer.node("Mul", [value, weights]), rank, kept);
    const output = this.#trial === undefined ? plain : writer.add(plain, this.#trial, this.#shapeOf(this.#trial));
    const limited = limit(output);
    const difference = writer.node("Sub", [limit(reference), limited]);
    const size = weights === undefined ? writer.node("Size", [plain]) : writeWeightedSize(writer, plain, weights);
    const squared = sum(writer.node("Mul", [difference, difference]));
    if (this.#trial === undefined) {
      const unlimited = limits === undefined ? difference : writer.node("Sub", [reference, output]);
      return writer.finish([size, squared, sum(unlimited)]);
    }
    // What the limits let through is what they leave unchanged.
    const passes = writer.float32(writer.node("Equal", [output, limited]));
    return writer.finish([size, squared, sum(writer.node("Mul", [difference, passes])), sum(passes)]);
  }

  update([size, ...vectors]: readonly Tensor[]): void {
    const sums = vectors.map(float32Values);
    const [elements] = size.type === "float32" ? float32Values(size) : integerValues(size);
    const count = elements / Math.max(sums[0].length, 1);
    const numbers = new Float64Array(1 + sums.length * sums[0].length);
    numbers[0] = count;
    for (const [i, sum] of sums.entries()) numbers.set(sum, 1 + i * sum.length);
    this.#sums.add(numbers);
  }

  merge(other: Statistic<OutputError>): void {
    if (!(other instanceof OutputErrorStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    this.#sums.merge(other.#sums);
  }

  encode(): Uint8Array {
    return bytesOfNumbers(this.#sums.encode());
  }

  mergeEncoded(encoded: Uint8Array): void {
    const numbers = numbersOfBytes(encoded);
    const length = (numbers.length - 1) / Math.max(Math.min(numbers[0], 2), 1);
    if (length > 0 && !Number.isInteger((length - 1) / this.#vectors)) throw malformed("are no sums of output errors");
    this.#sums.mergeEncoded(numbers);
  }

  result(): OutputError {
    return { ...this.#meansOf(this.#sums.total()), halves: this.#sums.halves.map((half) => this.#meansOf(half)) };
  }

  get #vectors(): number {
    return this.#trial === undefined ? 2 : 3;
  }

  #meansOf(sums: Float64Array): OutputErrorOfRuns {
    const channels = Math.max(sums.length - 1, 0) / this.#vectors;
    const vector = (index: number) => sums.slice(1 + index * channels, 1 + (index + 1) * channels);
    const count = Math.max(sums[0] ?? 0, 1);
    const passed = this.#trial === undefined ? undefined : vector(2);
    return {
      count: sums[0] ?? 0,
      squared: vector(0).map((sum) => sum / count),
      step: vector(1).map((sum, i) => sum / Math.max(passed === undefined ? count : passed[i], 1)),
    };
  }

  /** In which a bias broadcasts over the output. */
  #shapeOf({ length }: Float64Array): readonly number[] {
    const { positions, rank, channelAxis } = this.#site;
    return positions ?? [length, ...new Array<number>(rank - 1 - channelAxis).fill(1)];
  }
}

/** Of each token, as it broadcasts over the output. `[T, 1]` */
function writeWeights(writer: ProbeWriter, token: HeadToken, output: ValueName, rank: number): ValueName {
  const count = writeTokenCount(writer, output, rank);
  const weights = writeTokenWeights(writer, token, writePlaces(writer, count), count);
  return writer.node("Reshape", [weights, writer.integers([-1, 1])]);
}

/** How many elements there are, each as often as it counts. One number, float32. */
function writeWeightedSize(writer: ProbeWriter, output: ValueName, weights: ValueName): ValueName {
  const mean = writer.node("ReduceMean", [weights], { keepdims: 0 });
  return writer.node("Mul", [writer.float32(writer.node("Size", [output])), mean]);
}
