import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { float32Values, integerValues, type Tensor } from "../tensor/tensor.js";
import { ProbeWriter } from "./probe-writer.js";
import type { Probe, Statistic, Tap } from "./statistic.js";

/** Where a layer's output stands and what follows it. */
export interface OutputSite {
  /** The layer's output before any activation function. */
  readonly output: ValueName;
  /** The value behind a Relu or Clip that is the output's only reader; the output itself where there is none. */
  readonly activated: ValueName;
  readonly rank: number;
  /** Axis of the output channels, counted from the start. */
  readonly channelAxis: number;
}

/** How the outputs of a layer differ between the float and the current network, per output channel. */
export interface OutputError {
  /** Elements per channel. */
  readonly count: number;
  /** Mean of float minus current, before the activation function. `[C]` */
  readonly mean: Float64Array;
  /** Mean squared difference behind the activation function. `[C]` */
  readonly squared: Float64Array;
  /**
   * The change of bias that would bring the mean error behind the activation function to zero if no element crossed the
   * function's kinks: mean of (float - current) over the elements that it lets through. `[C]`
   */
  readonly step: Float64Array;
}

/** The sums behind `OutputError`: a vector per channel each. */
export class OutputErrorStatistic implements Statistic<OutputError> {
  readonly key: string;
  readonly taps: readonly Tap[];
  readonly #site: OutputSite;
  #count = 0;
  #sums: readonly Float64Array[] | undefined;

  constructor(site: OutputSite) {
    this.key = `output error ${site.output}`;
    this.#site = site;
    this.taps = (["float", "current"] as const).flatMap((from) => [
      { from, value: site.output },
      { from, value: site.activated },
    ]);
  }

  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe {
    const writer = new ProbeWriter(names, opset);
    const [floatOutput, floatActivated, output, activated] = taps.map((tap) => writer.float32(tap));
    const axes = Array.from({ length: this.#site.rank }, (_, axis) => axis).filter((a) => a !== this.#site.channelAxis);
    const difference = writer.node("Sub", [floatOutput, output]);
    const behind = writer.node("Sub", [floatActivated, activated]);
    const size = writer.node("Size", [output]);
    const mean = writer.sum(difference, axes);
    const squared = writer.sum(writer.node("Mul", [behind, behind]), axes);
    if (this.#site.output === this.#site.activated) return writer.finish([size, mean, squared]);
    // What the function lets through is what it leaves unchanged.
    const passes = writer.float32(writer.node("Equal", [output, activated]));
    const through = writer.sum(writer.node("Mul", [behind, passes]), axes);
    return writer.finish([size, mean, squared, through, writer.sum(passes, axes)]);
  }

  update([size, ...vectors]: readonly Tensor[]): void {
    const sums = vectors.map((vector) => Float64Array.from(float32Values(vector)));
    this.#add(integerValues(size)[0] / sums[0].length, sums);
  }

  merge(other: Statistic<OutputError>): void {
    if (!(other instanceof OutputErrorStatistic) || other.#sums === undefined) return;
    this.#add(other.#count, other.#sums);
  }

  result(): OutputError {
    const count = Math.max(this.#count, 1);
    const [difference, squared, through, passed] = this.#sums ?? [new Float64Array(), new Float64Array()];
    const mean = difference.map((sum) => sum / count);
    const step = through === undefined ? mean : through.map((sum, i) => (passed[i] > 0 ? sum / passed[i] : 0));
    return { count: this.#count, mean, squared: squared.map((sum) => sum / count), step };
  }

  #add(count: number, sums: readonly Float64Array[]): void {
    this.#count += count;
    const before = this.#sums;
    this.#sums = before === undefined ? sums : before.map((sum, i) => sum.map((value, c) => value + sums[i][c]));
  }
}
