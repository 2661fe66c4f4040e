import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { type Distribution, distributionOf } from "../math/distribution.js";
import { clamp } from "../math/round.js";
import { strides } from "../math/strides.js";
import { fromFloat16 } from "../tensor/half.js";
import { bytesOf, type Tensor } from "../tensor/tensor.js";
import { aligned } from "../tensor/typed-array.js";
import { malformed } from "./encoding.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/**
 * At most so many values leave the runtime at once: about every so-manieth is taken. A hundred batches make a million, and
 * to pick one costs as much as to compute a few.
 */
const mostValues = 16_384;

/**
 * How the values of a tensor lie over all samples. The bins are the half-precision numbers: as fine as eight bits need at
 * the far ends and ever finer towards zero, the same for every tensor, so that nothing has to be known beforehand and
 * histograms add up. Values beyond 65504 count as that.
 */
export class HistogramStatistic implements Statistic<Distribution> {
  readonly key: string;
  readonly taps: readonly Tap[];
  /** Enough for a hundred thousand batches, in half the memory of float64. */
  readonly #counts = new Uint32Array(2 ** 16);

  constructor(tap: Tap) {
    this.key = `histogram ${tap.from} ${tap.value}`;
    this.taps = [tap];
  }

  probe([value]: readonly ValueName[], names: NameSource, opset: number): Probe {
    const writer = new ProbeWriter(names, opset);
    return writer.finish([writer.float16(writer.everyFew(value, mostValues, strides))]);
  }

  update([values]: readonly Tensor[]): void {
    const codes = new Uint16Array(...aligned(values.bytes(), Uint16Array.BYTES_PER_ELEMENT));
    const counts = this.#counts;
    for (let i = 0; i < codes.length; i++) counts[codes[i]]++;
  }

  merge(other: Statistic<Distribution>): void {
    if (!(other instanceof HistogramStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    for (let code = 0; code < this.#counts.length; code++) this.#counts[code] += other.#counts[code];
  }

  /** The counts of the bins that hold anything, as uint32, then their codes, as uint16. */
  encode(): Uint8Array {
    const codes = Uint16Array.from(this.#counts.keys()).filter((code) => this.#counts[code] > 0);
    const encoded = new Uint8Array(codes.length * bytesPerBin);
    encoded.set(bytesOf(Uint32Array.from(codes, (code) => this.#counts[code])));
    encoded.set(bytesOf(codes), codes.length * Uint32Array.BYTES_PER_ELEMENT);
    return encoded;
  }

  mergeEncoded(encoded: Uint8Array): void {
    const size = encoded.byteLength / bytesPerBin;
    if (!Number.isInteger(size)) throw malformed(`has ${encoded.byteLength} bytes, which are no histogram`);
    // A copy, for bytes may start at an odd place of their buffer.
    const { buffer } = new Uint8Array(encoded);
    const counts = new Uint32Array(buffer, 0, size);
    const codes = new Uint16Array(buffer, counts.byteLength, size);
    codes.forEach((code, i) => {
      this.#counts[code] += counts[i];
    });
  }

  result(): Distribution {
    const values = new Float64Array(orderedCodes.length);
    const counts = new Float64Array(orderedCodes.length);
    let size = 0;
    for (let i = 0; i < orderedCodes.length; i++) {
      const count = this.#counts[orderedCodes[i]];
      if (count === 0) continue;
      values[size] = orderedValues[i];
      counts[size] = count;
      size++;
    }
    return distributionOf(values.slice(0, size), counts.slice(0, size));
  }
}

const bytesPerBin = Uint32Array.BYTES_PER_ELEMENT + Uint16Array.BYTES_PER_ELEMENT;

const infinity = 0x7c00;
const sign = 0x8000;
const largest = fromFloat16(infinity - 1);

/** The codes of all numbers, the infinities included, from the smallest to the largest. */
const orderedCodes = Uint16Array.from({ length: 2 * (infinity + 1) }, (_, i) =>
  i <= infinity ? sign | (infinity - i) : i - infinity - 1,
);

/** Their values; infinities count as the largest number. */
const orderedValues = Float64Array.from(orderedCodes, (code) => clamp(fromFloat16(code), -largest, largest));
