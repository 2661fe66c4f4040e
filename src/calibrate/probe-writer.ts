import type { ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { elementCodeOf } from "../tensor/element-code.js";
import { int64Tensor } from "../tensor/tensor.js";
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

  /** The value in float32, whatever type it has. */
  float32(value: ValueName): ValueName {
    return this.node("Cast", [value], { to: elementCodeOf("float32") });
  }

  /** The sum over some axes, which disappear. */
  sum(value: ValueName, axes: readonly number[]): ValueName {
    if (axes.length === 0) return value;
    if (this.#opset < 13) return this.#writer.node("ReduceSum", [value], "probe_sum", { axes, keepdims: 0 });
    const input = this.#writer.constant("probe_axes", int64Tensor([axes.length], axes));
    return this.node("ReduceSum", [value, input], { keepdims: 0 });
  }

  finish(outputs: readonly ValueName[]): Probe {
    return { nodes: this.#writer.nodes, initializers: this.#writer.initializers, outputs };
  }
}
