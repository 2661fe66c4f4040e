import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import type { Range } from "../math/distribution.js";
import type { Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers } from "./encoding.js";
import { RangeStatistic, rangesOfBytes } from "./range.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** Weight of a new sample. */
const freshness = 0.1;

/** So many samples are kept: the weight of the one before them, 0.9 to the 512th, is far below what float64 resolves. */
const keptSamples = 512;

/**
 * Moving average of the smallest and the largest value of a tensor, from sample to sample: the first one starts it. It
 * depends on the order, so it is fed sample by sample, and what is merged is taken to have come later. The samples' own
 * extremes are kept, so that it is the same to the last bit however the samples were split.
 */
export class MovingAverageStatistic implements Statistic<Range> {
  readonly key: string;
  readonly taps: readonly Tap[];
  /** The extremes of the last samples that had elements, in order. */
  #extremes: readonly Range[] = [];

  constructor(tap: Tap) {
    this.key = `moving average ${tap.from} ${tap.value}`;
    this.taps = [tap];
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    return new RangeStatistic(this.taps[0]).probe(taps, names, opset);
  }

  /** @throws RecoupError `model/not-finite` for a value that is infinite or not a number */
  update(outputs: readonly Tensor[]): void {
    const range = new RangeStatistic(this.taps[0]);
    range.update(outputs);
    this.#append([range.result()]);
  }

  merge(other: Statistic<Range>): void {
    if (!(other instanceof MovingAverageStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    this.#append(other.#extremes);
  }

  /** The extremes of the last samples, in order: the smallest value of the first, its largest, and so on. */
  encode(): Uint8Array {
    return bytesOfNumbers(this.#extremes.flatMap(({ low, high }) => [low, high]));
  }

  mergeEncoded(encoded: Uint8Array): void {
    this.#append(rangesOfBytes(encoded));
  }

  result(): Range {
    const [first = { low: 0, high: 0 }, ...others] = this.#extremes;
    return others.reduce((average, range) => add(scale(average, 1 - freshness), scale(range, freshness)), first);
  }

  #append(later: readonly Range[]): void {
    const withElements = later.filter(({ low, high }) => low <= high);
    this.#extremes = [...this.#extremes, ...withElements].slice(-keptSamples);
  }
}

function scale({ low, high }: Range, factor: number): Range {
  return { low: low * factor, high: high * factor };
}

function add(a: Range, b: Range): Range {
  return { low: a.low + b.low, high: a.high + b.high };
}
