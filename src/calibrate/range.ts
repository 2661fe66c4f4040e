import { RecoupError } from "../errors.js";
import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

export interface MinMax {
  readonly low: number;
  readonly high: number;
}

/** Smallest and largest value of a tensor over all samples: two numbers a sample leave the runtime. */
export class RangeStatistic implements Statistic<MinMax> {
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
    const low = writer.node("ReduceMin", [value], { keepdims: 0 });
    const high = writer.node("ReduceMax", [value], { keepdims: 0 });
    return writer.finish([low, high]);
  }

  /** @throws RecoupError `model/not-finite` for a value that is infinite or not a number */
  update([low, high]: readonly Tensor[]): void {
    const [smallest] = float32Values(low);
    const [largest] = float32Values(high);
    if (!Number.isFinite(smallest) || !Number.isFinite(largest)) {
      const field = this.taps[0].value;
      throw new RecoupError("model/not-finite", `reaches from ${smallest} to ${largest} on this sample`, { field });
    }
    this.#low = Math.min(this.#low, smallest);
    this.#high = Math.max(this.#high, largest);
  }

  merge(other: Statistic<MinMax>): void {
    const { low, high } = other.result();
    this.#low = Math.min(this.#low, low);
    this.#high = Math.max(this.#high, high);
  }

  result(): MinMax {
    return { low: this.#low, high: this.#high };
  }
}
