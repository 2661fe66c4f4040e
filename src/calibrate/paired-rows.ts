import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers, malformed, numbersOfBytes } from "./encoding.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** Numbers that are kept of each network, where nothing else is said: 16 MB, four thousand rows of a thousand classes. */
const mostNumbersKept = 2 ** 22;

/** What both networks compute of a value, row by row in the order of the samples. */
export interface PairedRows {
  readonly columns: number;
  /** `[rows, columns]` */
  readonly float: Float64Array;
  /** `[rows, columns]` */
  readonly current: Float64Array;
  /** The sample that each row belongs to, counted from 0. `[rows]` */
  readonly samples: Float64Array;
  /** Rows of later samples that were too many to be kept. */
  readonly dropped: number;
}

/** Of one sample. */
interface SampleRows {
  readonly float: Float32Array;
  readonly current: Float32Array;
  readonly dropped: number;
}

/**
 * Keeps the rows of a value in both networks: for what cannot be summed up, as clusters of outputs. Memory is bounded, as
 * the rows of later samples are only counted.
 */
export class PairedRowsStatistic implements Statistic<PairedRows> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #columns: number;
  readonly #mostNumbers: number;
  readonly #samples: SampleRows[] = [];
  #kept = 0;
  #isFull = false;

  /**
   * @param columns elements in a row: neighbours in memory, whatever shape the value has
   * @param mostNumbers that are kept of each network
   */
  constructor(value: ValueName, columns: number, mostNumbers = mostNumbersKept) {
    this.key = `paired rows ${columns} ${mostNumbers} ${value}`;
    this.taps = [
      { from: "float", value },
      { from: "current", value },
    ];
    this.#columns = columns;
    this.#mostNumbers = mostNumbers;
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    const writer = new ProbeWriter(names, opset);
    const rows = taps.map((tap) => writer.node("Reshape", [writer.float32(tap), writer.integers([-1, this.#columns])]));
    return writer.finish([writer.node("Shape", [taps[0]]), ...rows]);
  }

  update([shape, ...both]: readonly Tensor[]): void {
    const count = integerValues(shape)[0];
    const [float, current] = both.map(float32Values);
    const size = float.length / Math.max(count, 1);
    for (let i = 0; i < count; i++) {
      this.#add({
        float: float.subarray(i * size, (i + 1) * size),
        current: current.subarray(i * size, (i + 1) * size),
        dropped: 0,
      });
    }
  }

  merge(other: Statistic<PairedRows>): void {
    if (!(other instanceof PairedRowsStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    for (const sample of other.#samples) this.#add(sample);
  }

  /** The number of samples; of each the rows that are kept and the rows that are not; then its rows, float and current. */
  encode(): Uint8Array {
    const heads = this.#samples.flatMap(({ float, dropped }) => [float.length / this.#columns, dropped]);
    const numbers = new Float64Array(1 + heads.length + 2 * this.#kept * this.#columns);
    numbers[0] = this.#samples.length;
    numbers.set(heads, 1);
    let at = 1 + heads.length;
    for (const { float, current } of this.#samples) {
      numbers.set(float, at);
      numbers.set(current, at + float.length);
      at += 2 * float.length;
    }
    return bytesOfNumbers(numbers);
  }

  mergeEncoded(encoded: Uint8Array): void {
    const numbers = numbersOfBytes(encoded);
    const samples = numbers[0];
    const isCount = (value: number) => value >= 0 && Number.isInteger(value);
    const heads = isCount(samples) ? numbers.subarray(1, 1 + 2 * samples) : undefined;
    const kept = heads?.filter((_, i) => i % 2 === 0).reduce((sum, rows) => sum + rows, 0) ?? Number.NaN;
    if (!heads?.every(isCount) || numbers.length !== 1 + heads.length + 2 * kept * this.#columns) {
      throw malformed("are no rows of outputs");
    }
    let at = 1 + heads.length;
    for (let i = 0; i < samples; i++) {
      const [rows, dropped] = heads.subarray(2 * i, 2 * i + 2);
      const length = rows * this.#columns;
      const part = (from: number) => Float32Array.from(numbers.subarray(from, from + length));
      this.#add({ float: part(at), current: part(at + length), dropped });
      at += 2 * length;
    }
  }

  result(): PairedRows {
    const float = new Float64Array(this.#kept * this.#columns);
    const current = new Float64Array(float.length);
    const samples = new Float64Array(this.#kept);
    let at = 0;
    for (const [index, sample] of this.#samples.entries()) {
      float.set(sample.float, at);
      current.set(sample.current, at);
      samples.fill(index, at / this.#columns, (at + sample.float.length) / this.#columns);
      at += sample.float.length;
    }
    const dropped = this.#samples.reduce((sum, sample) => sum + sample.dropped, 0);
    return { columns: this.#columns, float, current, samples, dropped };
  }

  #add({ float, current, dropped }: SampleRows): void {
    const rows = float.length / this.#columns;
    // Whole samples, and none behind one that is too large: so parts merge to what one run keeps.
    const fits = !this.#isFull && dropped === 0 && (this.#kept + rows) * this.#columns <= this.#mostNumbers;
    const none = new Float32Array();
    this.#samples.push(
      // Copies: what a run returns is a part of a larger buffer.
      fits
        ? { float: float.slice(), current: current.slice(), dropped }
        : { float: none, current: none, dropped: dropped + rows },
    );
    if (fits) this.#kept += rows;
    else this.#isFull = true;
  }
}
