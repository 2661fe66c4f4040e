import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers, malformed, numbersOfBytes } from "./encoding.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** What the channels of an activation hold. */
export interface ChannelMoments {
  /** Elements per channel. */
  readonly count: number;
  /** `[C]`; empty where nothing was seen. */
  readonly meanSquares: Float64Array;
  readonly lows: Float64Array;
  readonly highs: Float64Array;
}

/** Mean square and extremes of each channel of an activation: three vectors a batch leave the runtime. */
export class ChannelMomentsStatistic implements Statistic<ChannelMoments> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #rank: number;
  readonly #channelAxis: number;
  #count = 0;
  #squares: Float64Array = new Float64Array();
  #lows: Float64Array = new Float64Array();
  #highs: Float64Array = new Float64Array();

  /** @param channelAxis counted from the start */
  constructor(tap: Tap, rank: number, channelAxis: number) {
    this.key = `channel moments ${tap.from} ${tap.value} ${channelAxis}`;
    this.taps = [tap];
    this.#rank = rank;
    this.#channelAxis = channelAxis;
  }

  probe([value]: readonly ValueName[], names: NameSource, opset: number): Probe {
    const writer = new ProbeWriter(names, opset);
    const input = writer.float32(value);
    const squares = writer.sumExcept(writer.node("Mul", [input, input]), this.#rank, [this.#channelAxis]);
    const low = writer.extremePerChannel("ReduceMin", input, this.#rank, this.#channelAxis);
    const high = writer.extremePerChannel("ReduceMax", input, this.#rank, this.#channelAxis);
    return writer.finish([writer.node("Size", [value]), squares, low, high]);
  }

  update([size, ...vectors]: readonly Tensor[]): void {
    const [squares, lows, highs] = vectors.map((vector) => Float64Array.from(float32Values(vector)));
    const count = integerValues(size)[0] / Math.max(squares.length, 1);
    if (count > 0) this.#add(count, squares, lows, highs);
  }

  merge(other: Statistic<ChannelMoments>): void {
    if (!(other instanceof ChannelMomentsStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    if (other.#count > 0) this.#add(other.#count, other.#squares, other.#lows, other.#highs);
  }

  /** The elements per channel, then the sums of squares, the smallest and the largest values. */
  encode(): Uint8Array {
    return bytesOfNumbers([this.#count, ...this.#squares, ...this.#lows, ...this.#highs]);
  }

  mergeEncoded(encoded: Uint8Array): void {
    const [count, ...values] = numbersOfBytes(encoded);
    const channels = values.length / 3;
    const fits = this.#count === 0 || count === 0 || channels === this.#squares.length;
    if (!(count >= 0) || !Number.isInteger(channels) || count > 0 !== channels > 0 || !fits) {
      throw malformed("are no moments of channels");
    }
    if (count === 0) return;
    const [squares, lows, highs] = [0, 1, 2].map((i) =>
      Float64Array.from(values.slice(i * channels, (i + 1) * channels)),
    );
    this.#add(count, squares, lows, highs);
  }

  result(): ChannelMoments {
    const meanSquares = this.#squares.map((sum) => sum / Math.max(this.#count, 1));
    return { count: this.#count, meanSquares, lows: this.#lows, highs: this.#highs };
  }

  #add(count: number, squares: Float64Array, lows: Float64Array, highs: Float64Array): void {
    const isFirst = this.#count === 0;
    this.#count += count;
    this.#squares = isFirst ? squares : this.#squares.map((sum, c) => sum + squares[c]);
    this.#lows = isFirst ? lows : this.#lows.map((low, c) => Math.min(low, lows[c]));
    this.#highs = isFirst ? highs : this.#highs.map((high, c) => Math.max(high, highs[c]));
  }
}
