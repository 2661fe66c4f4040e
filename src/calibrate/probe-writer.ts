import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { elementCodeOf } from "../tensor/element-code.js";
import { float32Tensor, int64Tensor } from "../tensor/tensor.js";
import type { Probe } from "./statistic.js";

/** Writes the nodes of a probe. */
export class ProbeWriter {
  readonly #writer: PatchWriter;
  readonly #opset: number;

  constructor(names: NameSource, opset: number) {
    this.#writer = new PatchWriter(names);
    this.#opset = opset;
  }

  node(opType: string, inputs: readonly ValueName[], attributes: Readonly<Record<string, number>> = {}): ValueName {
    return this.#writer.node(opType, inputs, `probe_${opType}`, attributes);
  }

  /** The value in float32, whatever type it has. The runtime takes a Cast away that changes nothing. */
  float32(value: ValueName): ValueName {
    return this.node("Cast", [value], { to: elementCodeOf("float32") });
  }

  /** The value between two limits, either of which may be infinite. */
  clip(value: ValueName, low: number, high: number): ValueName {
    if (low === 0 && high === Number.POSITIVE_INFINITY) return this.node("Relu", [value]);
    const limits = [low, high].map((limit) => this.#writer.constant("probe_limit", float32Tensor([], [limit])));
    return this.node("Clip", [value, ...limits]);
  }

  /** The sums over all axes but the channels'. */
  sumPerChannel(value: ValueName, rank: number, channelAxis: number): ValueName {
    const axes = Array.from({ length: rank }, (_, axis) => axis).filter((axis) => axis !== channelAxis);
    if (axes.length === 0) return value;
    if (this.#opset < 13) return this.#writer.node("ReduceSum", [value], "probe_sum", { axes, keepdims: 0 });
    const input = this.#writer.constant("probe_axes", int64Tensor([axes.length], axes));
    return this.node("ReduceSum", [value, input], { keepdims: 0 });
  }

  addPerChannel(value: ValueName, summand: Float64Array, rank: number, channelAxis: number): ValueName {
    const shape = [summand.length, ...new Array<number>(rank - 1 - channelAxis).fill(1)];
    return this.node("Add", [value, this.#writer.constant("probe_summand", float32Tensor(shape, summand))]);
  }

  finish(outputs: readonly ValueName[]): Probe {
    return { nodes: this.#writer.nodes, initializers: this.#writer.initializers, outputs };
  }
}
