import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { bytesOfNumbers, numbersOfBytes } from "./encoding.js";
import { HalvedSums, type Halves } from "./halved-sums.js";
import { type InputSite, writeInputMatrix } from "./input-matrix.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** How the columns of a layer's input go together. */
export interface Gram {
  /** Vectors or patches that were looked at. */
  readonly rows: number;
  /** XᵀX of the one and of the other half of the runs, not divided by anything. `[groups, K, K]` each */
  readonly halves: Halves;
  /** XᵀX of all runs. `[groups, K, K]` */
  readonly products: Float64Array;
}

/** The Gram matrix of what a layer reads: K² numbers a run leave the runtime instead of the input. */
export class GramStatistic implements Statistic<Gram> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #site: InputSite;
  readonly #products = new HalvedSums();
  #rows = 0;

  constructor(site: InputSite) {
    this.key = `gram ${site.input} ${site.columns} ${site.rowsPerRun} ${JSON.stringify(site.form)}`;
    this.taps = [{ from: "current", value: site.input }];
    this.#site = site;
  }

  probe([input]: readonly ValueName[], names: NameSource, opset: number): Probe {
    const writer = new ProbeWriter(names, opset);
    const matrix = writeInputMatrix(writer, writer.float32(input), this.#site);
    return writer.finish([matrix.rowCount, matrix.gram()]);
  }

  update([rows, products]: readonly Tensor[]): void {
    const count = Number(integerValues(rows)[0]);
    // The runtime's products of matrices without rows hold whatever was in its memory.
    if (count === 0) return;
    this.#rows += count;
    this.#products.add(float32Values(products));
  }

  merge(other: Statistic<Gram>): void {
    if (!(other instanceof GramStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    this.#rows += other.#rows;
    this.#products.merge(other.#products);
  }

  encode(): Uint8Array {
    return bytesOfNumbers([this.#rows, ...this.#products.encode()]);
  }

  mergeEncoded(encoded: Uint8Array): void {
    const [rows, ...products] = numbersOfBytes(encoded);
    this.#products.mergeEncoded(Float64Array.from(products));
    this.#rows += rows;
  }

  result(): Gram {
    return { rows: this.#rows, halves: this.#products.halves, products: this.#products.total() };
  }
}
