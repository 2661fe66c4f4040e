import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers, malformed, numbersOfBytes } from "./encoding.js";
import { chooseEvenly } from "./input-matrix.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** Places that are taken of one run at most, about. */
const rowsPerRun = 128;
/** Numbers that are kept of each half at most: of later runs nothing is. */
const mostNumbers = 2 ** 20;

/** What all channels of an activation hold at some places, from every other run, beginning with the first and the second. */
export interface ChannelRows {
  readonly channels: number;
  /** `[rows, channels]`; no rows where there was only one run. */
  readonly halves: readonly [Float32Array, Float32Array];
}

/** Keeps what the channels of an activation hold at places in even distances: what is found on one half can be tried on the other. */
export class ChannelRowsStatistic implements Statistic<ChannelRows> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #rank: number;
  readonly #channelAxis: number;
  readonly #channels: number;
  readonly #halves: [Float32Array[], Float32Array[]] = [[], []];
  readonly #kept: [number, number] = [0, 0];
  #runs = 0;

  /** @param channelAxis counted from the start */
  constructor(tap: Tap, rank: number, channelAxis: number, channels: number) {
    this.key = `channel rows ${tap.from} ${tap.value} ${channelAxis}`;
    this.taps = [tap];
    this.#rank = rank;
    this.#channelAxis = channelAxis;
    this.#channels = channels;
  }

  probe([value]: readonly ValueName[], names: NameSource, opset: number): Probe {
    const writer = new ProbeWriter(names, opset);
    const axes = Array.from({ length: this.#rank }, (_, axis) => axis).filter((axis) => axis !== this.#channelAxis);
    const isLast = this.#channelAxis === this.#rank - 1;
    const input = writer.float32(value);
    const last = isLast ? input : writer.node("Transpose", [input], { perm: [...axes, this.#channelAxis] });
    const all = writer.node("Reshape", [last, writer.integers([-1, this.#channels])]);
    const count = writer.node("Gather", [writer.node("Shape", [all]), writer.integers([0], [])]);
    const chosen = chooseEvenly(writer, count, writer.integers([rowsPerRun], []));
    return writer.finish([writer.node("Gather", [all, chosen], { axis: 0 })]);
  }

  update([rows]: readonly Tensor[]): void {
    this.#add(this.#runs % 2, float32Values(rows));
    this.#runs++;
  }

  merge(other: Statistic<ChannelRows>): void {
    if (!(other instanceof ChannelRowsStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    for (const [i, parts] of other.#halves.entries()) for (const part of parts) this.#add((this.#runs + i) % 2, part);
    this.#runs += other.#runs;
  }

  /** The number of runs and of the numbers that are kept of the first half, then those of both. */
  encode(): Uint8Array {
    const [even, odd] = this.result().halves;
    const numbers = new Float64Array(2 + even.length + odd.length);
    numbers.set([this.#runs, even.length]);
    numbers.set(even, 2);
    numbers.set(odd, 2 + even.length);
    return bytesOfNumbers(numbers);
  }

  mergeEncoded(encoded: Uint8Array): void {
    const numbers = numbersOfBytes(encoded);
    const [runs, first] = numbers;
    const values = numbers.subarray(2);
    const isCount = (value: number) => value >= 0 && Number.isInteger(value);
    const isWhole = (length: number) => length >= 0 && length % this.#channels === 0;
    if (!isCount(runs) || !isCount(first) || !isWhole(first) || !isWhole(values.length - first)) {
      throw malformed("are no rows of channels");
    }
    this.#add(this.#runs % 2, Float32Array.from(values.subarray(0, first)));
    this.#add((this.#runs + 1) % 2, Float32Array.from(values.subarray(first)));
    this.#runs += runs;
  }

  result(): ChannelRows {
    const [even, odd] = this.#halves.map((parts, half) => {
      const joined = new Float32Array(this.#kept[half]);
      let at = 0;
      for (const part of parts) {
        joined.set(part, at);
        at += part.length;
      }
      return joined;
    });
    return { channels: this.#channels, halves: [even, odd] };
  }

  #add(half: number, rows: Float32Array): void {
    const room = Math.floor((mostNumbers - this.#kept[half]) / this.#channels) * this.#channels;
    const kept = rows.slice(0, room);
    this.#halves[half].push(kept);
    this.#kept[half] += kept.length;
  }
}
