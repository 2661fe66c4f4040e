import { malformed } from "./encoding.js";

/** Sums over every other run, from the first and from the second on; empty where there was none. */
export type Halves = readonly [Float64Array, Float64Array];

/**
 * Sums of vectors over runs, kept in two halves: what is fitted on the one can be tried on the other. Sums are float64, in
 * the order of the runs.
 */
export class HalvedSums {
  readonly #halves: [Float64Array<ArrayBuffer>, Float64Array<ArrayBuffer>] = [new Float64Array(), new Float64Array()];
  #runs = 0;
  #total: Float64Array | undefined;

  get halves(): Halves {
    return this.#halves;
  }

  /** The same array as long as nothing is added. */
  total(): Float64Array {
    const [even, odd] = this.#halves;
    this.#total ??= odd.length === 0 ? even.slice() : even.map((sum, i) => sum + odd[i]);
    return this.#total;
  }

  add(values: Float32Array | Float64Array): void {
    this.#addTo(this.#runs % 2, values);
    this.#runs++;
  }

  /** Adds sums over the runs that come next. */
  merge(other: HalvedSums): void {
    for (const [i, sums] of other.#halves.entries()) this.#addTo((this.#runs + i) % 2, sums);
    this.#runs += other.#runs;
  }

  encode(): Float64Array {
    const [even, odd] = this.#halves;
    const encoded = new Float64Array(1 + even.length + odd.length);
    encoded[0] = this.#runs;
    encoded.set(even, 1);
    encoded.set(odd, 1 + even.length);
    return encoded;
  }

  /** @throws RecoupError `statistics/malformed` */
  mergeEncoded([runs, ...sums]: Float64Array): void {
    const count = Math.min(runs, 2);
    const length = sums.length / Math.max(count, 1);
    const isWhole = runs >= 0 && Number.isInteger(runs) && Number.isInteger(length) && (runs > 0 || length === 0);
    if (!isWhole || (this.#runs > 0 && runs > 0 && length !== this.#halves[0].length)) {
      throw malformed(`holds ${sums.length} sums over ${runs} runs`);
    }
    for (let i = 0; i < count; i++) {
      this.#addTo((this.#runs + i) % 2, Float64Array.from(sums.slice(i * length, (i + 1) * length)));
    }
    this.#runs += runs;
  }

  #addTo(half: number, values: Float32Array | Float64Array): void {
    if (values.length === 0) return;
    this.#total = undefined;
    const sums = this.#halves[half];
    if (sums.length === 0) this.#halves[half] = Float64Array.from(values);
    else for (let i = 0; i < values.length; i++) sums[i] += values[i];
  }
}
