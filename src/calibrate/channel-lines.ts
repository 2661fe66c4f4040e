import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers, numbersOfBytes } from "./encoding.js";
import { HalvedSums } from "./halved-sums.js";
import type { OutputSite } from "./output-error.js";
import { pairKey, pairTaps, writePair } from "./output-pair.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** Sums over the elements of each channel: of the current output q, and of what it lacks, e. `[C]` each */
export interface ChannelSums {
  readonly count: Float64Array;
  readonly q: Float64Array;
  readonly e: Float64Array;
  readonly qq: Float64Array;
  readonly qe: Float64Array;
}

/** A line for each channel, q' = gain · q + offset. `[C]` each */
export interface ChannelLines {
  readonly gain: Float64Array;
  readonly offset: Float64Array;
}

const keys = ["count", "q", "e", "qq", "qe"] as const;

/** How a layer's output goes together with what it lacks, per channel, in two halves of the runs. */
export class ChannelSumsStatistic implements Statistic<readonly ChannelSums[]> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #site: OutputSite;
  readonly #sums = new HalvedSums();

  constructor(site: OutputSite) {
    this.key = `channel sums ${pairKey(site)}`;
    this.taps = pairTaps(site);
    this.#site = site;
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    const { rank, channelAxis } = this.#site;
    const writer = new ProbeWriter(names, opset);
    const [reference, output] = writePair(writer, taps, this.#site);
    const error = writer.node("Sub", [reference, output]);
    const products = [output, error].map((value) => writer.node("Mul", [output, value]));
    const sums = [output, error, ...products].map((value) => writer.sumExcept(value, rank, [channelAxis]));
    return writer.finish([writer.node("Size", [output]), ...sums]);
  }

  update([size, ...vectors]: readonly Tensor[]): void {
    const [count] = integerValues(size);
    if (count === 0) return;
    const values = vectors.map(float32Values);
    const channels = values[0].length;
    const sums = new Float64Array(keys.length * channels).fill(count / channels, 0, channels);
    for (const [i, vector] of values.entries()) sums.set(vector, (i + 1) * channels);
    this.#sums.add(sums);
  }

  merge(other: Statistic<readonly ChannelSums[]>): void {
    if (!(other instanceof ChannelSumsStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    this.#sums.merge(other.#sums);
  }

  encode(): Uint8Array {
    return bytesOfNumbers(this.#sums.encode());
  }

  mergeEncoded(encoded: Uint8Array): void {
    this.#sums.mergeEncoded(numbersOfBytes(encoded));
  }

  /** Of the one half, of the other, and of both; of a half without runs the sums are empty. */
  result(): readonly ChannelSums[] {
    return [...this.#sums.halves, this.#sums.total()].map((sums) => {
      const channels = sums.length / keys.length;
      const parts = keys.map((key, i) => [key, sums.slice(i * channels, (i + 1) * channels)] as const);
      return Object.fromEntries(parts) as unknown as ChannelSums;
    });
  }
}

/** Mean squared errors of each channel behind the limits, as it is and with a line that was fitted on other runs. `[C]` */
export interface ChannelTrial {
  readonly before: Float64Array;
  readonly after: Float64Array;
}

/** Tries lines of a layer's output, each on the half of the runs that it was not fitted on. */
export class ChannelTrialStatistic implements Statistic<ChannelTrial> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #site: OutputSite;
  readonly #lines: readonly ChannelLines[];
  readonly #sums = new HalvedSums();

  /** @param lines as fitted on the one and on the other half */
  constructor(site: OutputSite, lines: readonly [ChannelLines, ChannelLines]) {
    this.key = `channel trial ${pairKey(site)} ${lines.map(({ gain, offset }) => `${gain} ${offset}`)}`;
    this.taps = pairTaps(site);
    this.#site = site;
    this.#lines = lines;
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    const { rank, channelAxis, limits } = this.#site;
    const writer = new ProbeWriter(names, opset);
    const limit = (value: ValueName) => (limits === undefined ? value : writer.clip(value, limits.low, limits.high));
    const [reference, output] = writePair(writer, taps, this.#site);
    const goal = limit(reference);
    const shape = ({ length }: Float64Array) => [length, ...new Array<number>(rank - 1 - channelAxis).fill(1)];
    const tried = this.#lines.map(({ gain, offset }) => {
      const scaled = writer.multiply(output, gain, shape(gain));
      return writer.add(scaled, offset, shape(offset));
    });
    const sums = [output, ...tried].map((value) => {
      const difference = writer.node("Sub", [goal, limit(value)]);
      return writer.sumExcept(writer.node("Mul", [difference, difference]), rank, [channelAxis]);
    });
    return writer.finish([writer.node("Size", [output]), ...sums]);
  }

  update([size, ...vectors]: readonly Tensor[]): void {
    const [count] = integerValues(size);
    if (count === 0) return;
    const values = vectors.map(float32Values);
    this.#sums.add(Float64Array.from([count / values[0].length, ...values.flatMap((vector) => [...vector])]));
  }

  merge(other: Statistic<ChannelTrial>): void {
    if (!(other instanceof ChannelTrialStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    this.#sums.merge(other.#sums);
  }

  encode(): Uint8Array {
    return bytesOfNumbers(this.#sums.encode());
  }

  mergeEncoded(encoded: Uint8Array): void {
    this.#sums.mergeEncoded(numbersOfBytes(encoded));
  }

  result(): ChannelTrial {
    const { halves } = this.#sums;
    const [count, ...sums] = this.#sums.total();
    const channels = sums.length / 3;
    const mean = (place: (half: number) => number) =>
      Float64Array.from({ length: channels }, (_, c) => {
        const sum = halves.reduce((total, half, i) => total + (half[1 + place(i) * channels + c] ?? 0), 0);
        return sum / count;
      });
    return { before: mean(() => 0), after: mean((half) => 2 - half) };
  }
}
