import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { float32Tensor, float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { type CorrectedBlock, keyOf, tapsOf, writeBlockRows, writeNorm } from "./block-rows.js";
import type { Curves } from "./block-sums.js";
import { writeExponential, writeLogarithm } from "./curve.js";
import { bytesOfNumbers, numbersOfBytes } from "./encoding.js";
import { HalvedSums } from "./halved-sums.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** A matrix of numbers, row by row. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

/** What is added to a block's output, as a function of what enters the block. */
export interface Correction {
  readonly curves: Curves;
  /** Multiplied with the input one after the other, each `[out, in]`; none for a constant. */
  readonly matrices: readonly Matrix[];
  /** Added behind them, in the space of the error's curve. `[O]` */
  readonly offset: Float32Array;
  /** The largest correction of each channel, where the error has a curve. `[O]` */
  readonly most?: Float32Array;
}

/** A correction as fitted on the one and on the other half of the runs. */
export type HalvedCorrection = readonly [Correction, Correction];

/** Mean squared errors of a block's output. */
export interface BlockError {
  readonly raw: number;
  /** As the next normalization, and the tokens that count more, let it through. */
  readonly judged: number;
}

export interface BlockTrial {
  readonly kind: "trial";
  readonly before: BlockError;
  /** Of each correction on runs that it was not fitted on. */
  readonly after: readonly BlockError[];
}

/** Tries corrections of a block, each on the half of the runs that it was not fitted on. */
export class BlockTrialStatistic implements Statistic<BlockTrial> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #site: CorrectedBlock;
  readonly #corrections: readonly HalvedCorrection[];
  /** Rows, their weights, errors without a correction, then with each as fitted on either half. */
  readonly #sums = new HalvedSums();

  /** @param about tells trials of one block apart */
  constructor(site: CorrectedBlock, corrections: readonly HalvedCorrection[], about: string) {
    this.key = `block trial ${keyOf(site)} ${about}`;
    this.taps = tapsOf(site);
    this.#site = site;
    this.#corrections = corrections;
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    const { norm, limits } = this.#site;
    const writer = new ProbeWriter(names, opset);
    const { inputs, outputs, targets, judges, count } = writeBlockRows(writer, taps, this.#site);
    const sum = (value: ValueName) =>
      writer.node("Reshape", [writer.node("ReduceSum", [value], { keepdims: 0 }), writer.integers([1])]);
    const goal = norm === undefined ? targets : writeNorm(writer, targets, norm);
    const errorsOf = (corrected: ValueName) => {
      const result = limits === undefined ? corrected : writer.clip(corrected, limits.low, limits.high);
      const raw = writer.node("Sub", [targets, result]);
      const judged = norm === undefined ? raw : writer.node("Sub", [goal, writeNorm(writer, result, norm)]);
      const weighed = writer.node("Mul", [writer.node("Mul", [judged, judged]), judges]);
      return [sum(writer.node("Mul", [raw, raw])), sum(weighed)];
    };
    const corrected = this.#corrections.flatMap((halves) =>
      halves.flatMap((one) => errorsOf(writer.node("Add", [outputs, writeCorrection(writer, inputs, one)]))),
    );
    const numbers = [sum(judges), ...errorsOf(outputs), ...corrected];
    return writer.finish([count, writer.node("Concat", numbers, { axis: 0 })]);
  }

  update([count, sums]: readonly Tensor[]): void {
    const [rows] = integerValues(count);
    if (rows > 0) this.#sums.add(Float64Array.of(rows, ...float32Values(sums)));
  }

  merge(other: Statistic<BlockTrial>): void {
    if (!(other instanceof BlockTrialStatistic)) throw new Error(`${other.key} does not merge into ${this.key}`);
    this.#sums.merge(other.#sums);
  }

  encode(): Uint8Array {
    return bytesOfNumbers(this.#sums.encode());
  }

  mergeEncoded(encoded: Uint8Array): void {
    this.#sums.mergeEncoded(numbersOfBytes(encoded));
  }

  result(): BlockTrial {
    const { halves } = this.#sums;
    const [rows, weight] = this.#sums.total();
    const { outputChannels } = this.#site;
    const errorAt = (place: (half: number) => number): BlockError => {
      const sum = (offset: number) => halves.reduce((total, half, i) => total + (half[place(i) + offset] ?? 0), 0);
      return { raw: sum(0) / (rows * outputChannels), judged: sum(1) / (weight * outputChannels) };
    };
    return {
      kind: "trial",
      before: errorAt(() => 2),
      // Runs of the one half are tried with what was fitted on the other.
      after: this.#corrections.map((_, i) => errorAt((half) => 4 + 4 * i + 2 * (1 - half))),
    };
  }
}

/** The correction of some rows `[n, K]`: `[n, O]` */
function writeCorrection(
  writer: ProbeWriter,
  inputs: ValueName,
  { curves, matrices, offset, most }: Correction,
): ValueName {
  const constant = writer.constant(float32Tensor([1, offset.length], offset));
  const start = curves.input === undefined ? inputs : writeLogarithm(writer, inputs, curves.input);
  const multiplied = matrices.reduce((rows, { rows: outputs, columns, values }) => {
    const weight = writer.constant(float32Tensor([outputs, columns], values));
    return writer.node("Gemm", [rows, weight], { transB: 1 });
  }, start);
  const sum = matrices.length === 0 ? constant : writer.node("Add", [multiplied, constant]);
  if (curves.error === undefined || most === undefined) return sum;
  return writeExponential(writer, sum, curves.error, most, [1, offset.length]);
}
