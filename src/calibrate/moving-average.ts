import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import type { Range } from "../math/distribution.js";
import type { Tensor } from "../tensor/tensor.js";
import { RangeStatistic } from "./range.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** Weight of a new sample. */
const freshness = 0.1;

/**
 * Moving average of the smallest and the largest value of a tensor, from sample to sample: the first one starts it. It
 * depends on the order, so it is fed sample by sample, and what is merged is taken to have come later.
 */
export class MovingAverageStatistic implements Statistic<Range> {
  readonly key: string;
  readonly taps: readonly Tap[];
  #count = 0;
  #first: Range = { low: 0, high: 0 };
  /** What all samples but the first add up to, each with its weight. */
  #rest: Range = { low: 0, high: 0 };

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
    const extremes = range.result();
    if (extremes.low <= extremes.high) this.#append(1, extremes, { low: 0, high: 0 });
  }

  merge(other: Statistic<Range>): void {
    if (!(other instanceof MovingAverageStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    if (other.#count > 0) this.#append(other.#count, other.#first, other.#rest);
  }

  result(): Range {
    const faded = (1 - freshness) ** (this.#count - 1);
    return this.#count === 0 ? { low: 0, high: 0 } : add(scale(this.#first, faded), this.#rest);
  }

  #append(count: number, first: Range, rest: Range): void {
    if (this.#count === 0) [this.#first, this.#rest] = [first, rest];
    else {
      const faded = (1 - freshness) ** count;
      this.#rest = add(add(scale(this.#rest, faded), scale(first, (freshness * faded) / (1 - freshness))), rest);
    }
    this.#count += count;
  }
}

function scale({ low, high }: Range, factor: number): Range {
  return { low: low * factor, high: high * factor };
}

function add(a: Range, b: Range): Range {
  return { low: a.low + b.low, high: a.high + b.high };
}
