import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { digestOf } from "../math/digest.js";
import type { Limits } from "../operators/limits.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers, malformed, numbersOfBytes } from "./encoding.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** Where a layer's output stands and what follows it. */
export interface OutputSite {
  /** The layer's output before any activation function. */
  readonly output: ValueName;
  /** Of the Relu or Clip behind it. */
  readonly limits?: Limits;
  readonly rank: number;
  /** Axis of the output channels, counted from the start. */
  readonly channelAxis: number;
  /** Lengths of all axes but the first, where every position of a channel counts for itself. */
  readonly positions?: readonly number[];
}

/**
 * How the outputs of a layer differ between the float and the current network: per output channel, `[C]`, or per position
 * and channel, as `[C · H · W]` or `[T · C]` in the order of the output.
 */
export interface OutputError {
  /** Elements per channel, or per position and channel. */
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

/** The sums behind `OutputError`. */
export class OutputErrorStatistic implements Statistic<OutputError> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #site: OutputSite;
  readonly #trial: Float64Array | undefined;
  #count = 0;
  /** Squared differences; differences; and with a trial how many elements the latter are the sum of. */
  #sums: readonly Float64Array[] | undefined;

  /** @param trial a bias to add to the current network's output, as long as what is found */
  constructor(site: OutputSite, trial?: Float64Array) {
    const place = `${site.output} ${site.positions === undefined ? "" : "by position "}`;
    this.key = `output error ${place}${trial === undefined ? "" : digestOf(trial)}`;
    this.#site = site;
    this.#trial = trial;
    this.taps = [
      { from: "float", value: site.output },
      { from: "current", value: site.output },
    ];
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    const { limits, rank, channelAxis, positions } = this.#site;
    const writer = new ProbeWriter(names, opset);
    const limit = (value: ValueName) => (limits === undefined ? value : writer.clip(value, limits.low, limits.high));
    const kept = positions === undefined ? [channelAxis] : positions.map((_, i) => i + 1);
    const sum = (value: ValueName) => writer.sumExcept(value, rank, kept);
    const [reference, plain] = taps.map((tap) => writer.float32(tap));
    const output = this.#trial === undefined ? plain : writer.add(plain, this.#trial, this.#shapeOf(this.#trial));
    const limited = limit(output);
    const difference = writer.node("Sub", [limit(reference), limited]);
    const size = writer.node("Size", [plain]);
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
    const sums = vectors.map((vector) => Float64Array.from(float32Values(vector)));
    this.#add(integerValues(size)[0] / Math.max(sums[0].length, 1), sums);
  }

  merge(other: Statistic<OutputError>): void {
    if (!(other instanceof OutputErrorStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    if (other.#sums !== undefined) this.#add(other.#count, other.#sums);
  }

  /** The elements per channel, the number of channels, then the sums, vector by vector. */
  encode(): Uint8Array {
    const sums = this.#sums ?? [];
    return bytesOfNumbers([this.#count, sums[0]?.length ?? 0, ...sums.flatMap((vector) => [...vector])]);
  }

  mergeEncoded(encoded: Uint8Array): void {
    const [count, channels, ...values] = numbersOfBytes(encoded);
    const vectors = this.#trial === undefined ? 2 : 3;
    const isEmpty = count === 0 && values.length === 0;
    const isWhole = Number.isInteger(channels) && values.length === channels * vectors;
    const fits = this.#sums === undefined || isEmpty || this.#sums[0].length === channels;
    if (!(count >= 0) || !isWhole || !fits) throw malformed("are no sums of output errors");
    if (isEmpty) return;
    const sums = Array.from({ length: vectors }, (_, i) =>
      Float64Array.from(values.slice(i * channels, (i + 1) * channels)),
    );
    this.#add(count, sums);
  }

  result(): OutputError {
    const count = Math.max(this.#count, 1);
    const [squared, differences, passed] = this.#sums ?? [new Float64Array(), new Float64Array()];
    return {
      count: this.#count,
      squared: squared.map((sum) => sum / count),
      step: differences.map((sum, i) => sum / Math.max(passed === undefined ? count : passed[i], 1)),
    };
  }

  /** In which a bias broadcasts over the output. */
  #shapeOf({ length }: Float64Array): readonly number[] {
    const { positions, rank, channelAxis } = this.#site;
    return positions ?? [length, ...new Array<number>(rank - 1 - channelAxis).fill(1)];
  }

  #add(count: number, sums: readonly Float64Array[]): void {
    this.#count += count;
    const before = this.#sums;
    this.#sums = before === undefined ? sums : before.map((sum, i) => sum.map((value, c) => value + sums[i][c]));
  }
}
