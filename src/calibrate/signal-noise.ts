import type { SignalNoise } from "../evaluate/outputs.js";
import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers, malformed, numbersOfBytes } from "./encoding.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** Sums of squares of a value and of its error, over all samples: two numbers a sample leave the runtime. */
export class SignalNoiseStatistic implements Statistic<SignalNoise> {
  readonly key: string;
  readonly taps: readonly Tap[];
  #signal = 0;
  #noise = 0;

  constructor(value: ValueName) {
    this.key = `signal and noise ${value}`;
    this.taps = [
      { from: "float", value },
      { from: "current", value },
    ];
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    const writer = new ProbeWriter(names, opset);
    const [reference, current] = taps.map((tap) => writer.float32(tap));
    // Infinities, as masks hold them, are neither signal nor, where both networks have them, noise.
    const signal = writer.zeroWhere(writer.node("IsInf", [reference]), reference);
    const isSame = writer.node("Equal", [reference, current]);
    const noise = writer.zeroWhere(isSame, writer.node("Sub", [reference, current]));
    return writer.finish([signal, noise].map((value) => writer.node("ReduceSumSquare", [value], { keepdims: 0 })));
  }

  update([signal, noise]: readonly Tensor[]): void {
    this.#add({ signal: float32Values(signal)[0], noise: float32Values(noise)[0] });
  }

  merge(other: Statistic<SignalNoise>): void {
    this.#add(other.result());
  }

  encode(): Uint8Array {
    return bytesOfNumbers([this.#signal, this.#noise]);
  }

  mergeEncoded(encoded: Uint8Array): void {
    const numbers = numbersOfBytes(encoded);
    if (numbers.length !== 2) throw malformed("is no sum of signal and noise");
    const [signal, noise] = numbers;
    this.#add({ signal, noise });
  }

  result(): SignalNoise {
    return { signal: this.#signal, noise: this.#noise };
  }

  #add({ signal, noise }: SignalNoise): void {
    this.#signal += signal;
    this.#noise += noise;
  }
}
