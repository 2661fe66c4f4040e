import type { Node, ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import type { Tensor } from "../tensor/tensor.js";

/** A value that a statistic looks at: in the float network, or in the network as it is at the moment. */
export interface Tap {
  readonly from: "float" | "current";
  readonly value: ValueName;
}

/** Nodes that the engine adds to the running graph, so that only a batch's contribution leaves the runtime. */
export interface Probe {
  readonly nodes: readonly Node[];
  readonly initializers: ReadonlyMap<ValueName, Tensor>;
  /** What leaves the runtime. */
  readonly outputs: readonly ValueName[];
}

/**
 * A fold over samples in bounded memory. Two statistics of the same key over different samples merge into the statistic
 * over all of them; sums are float64, in the order of the samples.
 */
export interface Statistic<Result> {
  /** Statistics of equal keys take in the same, which the runtime computes once. */
  readonly key: string;
  readonly taps: readonly Tap[];
  /**
   * @param taps the names of the tapped values in the running graph, in the order of `taps`
   * @param opset version of the standard's operators in the running graph
   */
  probe(taps: readonly ValueName[], names: NameSource, opset: number): Probe;
  /** Takes in one sample: what the probe's outputs held. */
  update(outputs: readonly Tensor[]): void;
  /** Takes in what another statistic of the same key has taken in, over samples that come after this one's. */
  merge(other: Statistic<Result>): void;
  /** Everything that was taken in so far, as bytes for a file: nothing of this process or machine is in them. */
  encode(): Uint8Array;
  /**
   * Like `merge`, with what another statistic of the same key has encoded.
   *
   * @throws RecoupError `statistics/malformed` for bytes that no statistic of this kind has written
   */
  mergeEncoded(encoded: Uint8Array): void;
  result(): Result;
}

/** Gives the statistic of the same key that somebody asked for before, else the given one: it takes in samples once. */
export type Share = <Result>(statistic: Statistic<Result>) => Statistic<Result>;
