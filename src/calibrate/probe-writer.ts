import type { Node, ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { renameReads } from "../graph/rename.js";
import { elementCodeOf } from "../tensor/element-code.js";
import { float32Tensor, int64Tensor, type Tensor } from "../tensor/tensor.js";
import type { Probe } from "./statistic.js";

/** Writes the nodes of a probe. */
export class ProbeWriter {
  readonly #writer: PatchWriter;
  readonly #opset: number;

  constructor(names: NameSource, opset: number) {
    this.#writer = new PatchWriter(names);
    this.#opset = opset;
  }

  node(
    opType: string,
    inputs: readonly ValueName[],
    attributes: Readonly<Record<string, number | readonly number[]>> = {},
  ): ValueName {
    return this.#writer.node(opType, inputs, `probe_${opType}`, attributes);
  }

  /** A copy of a node with one output that reads other values. */
  copy(node: Node, inputs: readonly ValueName[]): ValueName {
    return this.#writer.node(node.opType, inputs, `probe_${node.opType}`, node.attributes);
  }

  /**
   * Copies of some nodes, in topological order, that read other values.
   *
   * @param constants the initializers that the nodes read
   * @param feeds what they read instead of values from outside
   * @returns the names that what they compute has in the copy
   */
  part(
    nodes: readonly Node[],
    constants: ReadonlyMap<ValueName, Tensor>,
    feeds: ReadonlyMap<ValueName, ValueName>,
  ): ReadonlyMap<ValueName, ValueName> {
    const names = new Map(feeds);
    for (const [name, tensor] of constants) names.set(name, this.constant(tensor));
    for (const node of nodes) {
      const outputs = node.outputs.map((output) => {
        if (output === "") return "";
        const copy = this.#writer.names.fresh(`probe_${output}`);
        names.set(output, copy);
        return copy;
      });
      this.#writer.add({ ...renameReads(node, names), name: "", outputs });
    }
    return names;
  }

  /** The largest element of each column of a matrix. `[columns]` */
  largestOfColumns(value: ValueName): ValueName {
    if (this.#opset < 18) return this.node("ReduceMax", [value], { axes: [0], keepdims: 0 });
    return this.node("ReduceMax", [value, this.integers([0])], { keepdims: 0 });
  }

  constant(tensor: Tensor): ValueName {
    return this.#writer.constant("probe_constant", tensor);
  }

  /** Whole numbers, a scalar where there is no shape. */
  integers(values: readonly number[], shape: readonly number[] = [values.length]): ValueName {
    return this.constant(int64Tensor(shape, values));
  }

  /** The value in float32, whatever type it has. The runtime takes a Cast away that changes nothing. */
  float32(value: ValueName): ValueName {
    return this.node("Cast", [value], { to: elementCodeOf("float32") });
  }

  float16(value: ValueName): ValueName {
    return this.node("Cast", [value], { to: elementCodeOf("float16") });
  }

  /** The value as a row per sample, `[N, everything else]`: rows are gone through side by side. */
  perSample(value: ValueName): ValueName {
    // Axes that count from the end are younger.
    if (this.#opset < 13) return this.node("Flatten", [value], { axis: 0 });
    // A scalar has no first axis yet.
    return this.node("Flatten", [this.node("Unsqueeze", [value, this.integers([-1])])], { axis: 1 });
  }

  /** Reduces each row of a matrix to a number. */
  reduceLast(opType: "ReduceMin" | "ReduceMax" | "ReduceSum", value: ValueName): ValueName {
    const takesAxes = this.#opset < (opType === "ReduceSum" ? 13 : 18);
    if (takesAxes) return this.node(opType, [value], { axes: [1], keepdims: 0 });
    return this.node(opType, [value, this.integers([1])], { keepdims: 0 });
  }

  /**
   * Elements of a tensor in fixed distances, all of them where there are few.
   *
   * @param most about so many at most, half as many at least
   * @param strides the distances to choose from, ascending
   */
  everyFew(value: ValueName, most: number, strides: readonly number[]): ValueName {
    const constant = (name: string, values: readonly number[]) =>
      this.#writer.constant(`probe_${name}`, int64Tensor([values.length], values));
    const axes = constant("axis", [0]);
    const size = this.node("Size", [value]);
    // The place in the list is the number of strides that leave too many.
    const tooMany = this.node("Less", [
      constant(
        "sizes",
        strides.slice(0, -1).map((stride) => stride * most),
      ),
      size,
    ]);
    const counted = this.node("Cast", [tooMany], { to: elementCodeOf("int64") });
    const place =
      this.#opset < 13
        ? this.#writer.node("ReduceSum", [counted], "probe_sum", { axes: [0], keepdims: 1 })
        : this.node("ReduceSum", [counted, axes], { keepdims: 1 });
    const stride = this.node("Gather", [constant("strides", strides), place]);
    const flat = this.node("Reshape", [value, constant("flat", [-1])]);
    const end = constant("end", [Number.MAX_SAFE_INTEGER]);
    return this.node("Slice", [flat, constant("start", [0]), end, axes, stride]);
  }

  /** A float32 value with zeros where a condition holds. */
  zeroWhere(condition: ValueName, value: ValueName): ValueName {
    return this.node("Where", [condition, this.#writer.constant("probe_zero", float32Tensor([], [0])), value]);
  }

  /** The value between two limits, either of which may be infinite. */
  clip(value: ValueName, low: number, high: number): ValueName {
    if (low === 0 && high === Number.POSITIVE_INFINITY) return this.node("Relu", [value]);
    const limits = [low, high].map((limit) => this.#writer.constant("probe_limit", float32Tensor([], [limit])));
    return this.node("Clip", [value, ...limits]);
  }

  /** The sums over all axes but some that are kept. */
  sumExcept(value: ValueName, rank: number, kept: readonly number[]): ValueName {
    const axes = Array.from({ length: rank }, (_, axis) => axis).filter((axis) => !kept.includes(axis));
    if (axes.length === 0) return value;
    if (this.#opset < 13) return this.#writer.node("ReduceSum", [value], "probe_sum", { axes, keepdims: 0 });
    const input = this.#writer.constant("probe_axes", int64Tensor([axes.length], axes));
    return this.node("ReduceSum", [value, input], { keepdims: 0 });
  }

  /** The smallest or the largest values over all axes but the channels'. */
  extremePerChannel(opType: "ReduceMin" | "ReduceMax", value: ValueName, rank: number, channelAxis: number): ValueName {
    const axes = Array.from({ length: rank }, (_, axis) => axis).filter((axis) => axis !== channelAxis);
    if (axes.length === 0) return value;
    if (this.#opset < 18) return this.#writer.node(opType, [value], `probe_${opType}`, { axes, keepdims: 0 });
    const input = this.#writer.constant("probe_axes", int64Tensor([axes.length], axes));
    return this.node(opType, [value, input], { keepdims: 0 });
  }

  /** @param shape of the summand, broadcast over the value */
  add(value: ValueName, summand: Float64Array, shape: readonly number[]): ValueName {
    return this.node("Add", [value, this.#writer.constant("probe_summand", float32Tensor(shape, summand))]);
  }

  /** @param shape in which the factors broadcast over the value */
  multiply(value: ValueName, factor: Float64Array, shape: readonly number[]): ValueName {
    return this.node("Mul", [value, this.#writer.constant("probe_factor", float32Tensor(shape, factor))]);
  }

  finish(outputs: readonly ValueName[]): Probe {
    return { nodes: this.#writer.nodes, initializers: this.#writer.initializers, outputs };
  }
}
