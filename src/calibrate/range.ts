import { RecoupError } from "../errors.js";
import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import type { Range } from "../math/distribution.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers, malformed, numbersOfBytes } from "./encoding.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** Smallest and largest value of a tensor over all samples: three numbers a sample leave the runtime. */
export class RangeStatistic implements Statistic<Range> {
  readonly key: string;
  readonly taps: readonly Tap[];
  #low = Number.POSITIVE_INFINITY;
  #high = Number.NEGATIVE_INFINITY;

  constructor(tap: Tap) {
    this.key = `range ${tap.from} ${tap.value}`;
    this.taps = [tap];
  }

  probe([value]: readonly ValueName[], names: NameSource, opset: number): Probe {
    const writer = new ProbeWriter(names, opset);
    const input = writer.perSample(writer.float32(value));
    const low = writer.reduceLast("ReduceMin", input);
    const high = writer.reduceLast("ReduceMax", input);
    // The runtime's minimum and maximum pass over NaN, its sum does not.
    const sum = writer.reduceLast("ReduceSum", input);
    return writer.finish([low, high, sum]);
  }

  /** @throws RecoupError `model/not-finite` for a value that is infinite or not a number */
  update(outputs: readonly Tensor[]): void {
    const [lows, highs, sums] = outputs.map(float32Values);
    const low = lows.reduce((least, one) => Math.min(least, one), Number.POSITIVE_INFINITY);
    const high = highs.reduce((most, one) => Math.max(most, one), Number.NEGATIVE_INFINITY);
    const sum = sums.reduce((total, one) => total + one, 0);
    const isEmpty = low > high;
    if (Number.isNaN(sum) || (!isEmpty && !Number.isFinite(high - low))) {
      const message = Number.isNaN(sum) ? "holds NaN on this sample" : `reaches from ${low} to ${high} on this sample`;
      throw new RecoupError("model/not-finite", message, { field: this.taps[0].value });
    }
    this.#widen({ low, high });
  }

  merge(other: Statistic<Range>): void {
    this.#widen(other.result());
  }

  /** The smallest and the largest value; of no values infinity and minus infinity. */
  encode(): Uint8Array {
    return bytesOfNumbers([this.#low, this.#high]);
  }

  mergeEncoded(encoded: Uint8Array): void {
    const [range, ...others] = rangesOfBytes(encoded);
    if (range === undefined || others.length > 0) throw malformed("is no range");
    this.#widen(range);
  }

  result(): Range {
    return { low: this.#low, high: this.#high };
  }

  #widen({ low, high }: Range): void {
    this.#low = Math.min(this.#low, low);
    this.#high = Math.max(this.#high, high);
  }
}

/**
 * Ranges that were encoded as pairs of numbers.
 *
 * @throws RecoupError `statistics/malformed`
 */
export function rangesOfBytes(bytes: Uint8Array): readonly Range[] {
  const numbers = numbersOfBytes(bytes);
  if (numbers.length % 2 !== 0) throw malformed("holds a range without an end");
  return Array.from({ length: numbers.length / 2 }, (_, i) => {
    const [low, high] = [numbers[2 * i], numbers[2 * i + 1]];
    const isEmpty = low === Number.POSITIVE_INFINITY && high === Number.NEGATIVE_INFINITY;
    if (!isEmpty && !(low <= high && Number.isFinite(high - low))) throw malformed(`reaches from ${low} to ${high}`);
    return { low, high };
  });
}
