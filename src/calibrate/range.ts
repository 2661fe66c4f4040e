import { RecoupError } from "../errors.js";
import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import type { Range } from "../math/distribution.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** Smallest and largest value of a tensor over all samples: three numbers a batch leave the runtime. */
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
    const input = writer.float32(value);
    const low = writer.node("ReduceMin", [input], { keepdims: 0 });
    const high = writer.node("ReduceMax", [input], { keepdims: 0 });
    // The runtime's minimum and maximum pass over NaN, its sum does not.
    const sum = writer.node("ReduceSum", [input], { keepdims: 0 });
    return writer.finish([low, high, sum]);
  }

  /** @throws RecoupError `model/not-finite` for a value that is infinite or not a number */
  update(outputs: readonly Tensor[]): void {
    const [low, high, sum] = outputs.map((output) => float32Values(output)[0]);
    const isEmpty = low > high;
    if (Number.isNaN(sum) || (!isEmpty && !Number.isFinite(high - low))) {
      const message = Number.isNaN(sum) ? "holds NaN on this sample" : `reaches from ${low} to ${high} on this sample`;
      throw new RecoupError("model/not-finite", message, { field: this.taps[0].value });
    }
    this.#low = Math.min(this.#low, low);
    this.#high = Math.max(this.#high, high);
  }

  merge(other: Statistic<Range>): void {
    const { low, high } = other.result();
    this.#low = Math.min(this.#low, low);
    this.#high = Math.max(this.#high, high);
  }

  result(): Range {
    return { low: this.#low, high: this.#high };
  }
}
