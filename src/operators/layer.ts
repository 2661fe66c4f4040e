import type { Graph, Node, ValueName } from "../graph/graph.js";
import type { ValueTypes } from "../graph/value-types.js";

/** How a layer reads its input: what the columns of its weight are multiplied with. */
export type InputForm =
  /** Vectors that lie along an axis, counted from the end. */
  | { readonly kind: "vectors"; readonly axis: -1 | -2 }
  /** Patches under a kernel that moves over all axes behind the channels; each group has its own channels. */
  | {
      readonly kind: "patches";
      readonly groups: number;
      readonly kernel: readonly number[];
      readonly strides: readonly number[];
      readonly dilations: readonly number[];
      /** Zeros before each axis, then behind each; or so many that the output has the input's size over the stride. */
      readonly padding: readonly number[] | "SAME_UPPER" | "SAME_LOWER";
    };

/** One use of a constant weight by a node: what gets a weight format. */
export interface Layer {
  readonly node: Node;
  /** The initializer that holds the weight. */
  readonly weight: ValueName;
  /** Which input of the node reads it. */
  readonly weightInput: number;
  /** The Transpose between initializer and node, where there is one: a weight that two layers read in two directions. */
  readonly transpose?: Node;
  /** Axis of the initializer along which the output channels lie. */
  readonly channelAxis: number;
  /** Axis of the node's first output along which the output channels lie; counted from the end where negative. */
  readonly outputAxis: number;
  /** The activation that is multiplied with the weight; absent for a table that is looked up in. */
  readonly data?: ValueName;
  /**
   * How a row of the weight (one output channel, the rest in storage order) meets the input; absent where the output is no
   * such product.
   */
  readonly inputForm?: InputForm;
  /** Why onnxruntime computes this layer in float even where weights and activations are quantized. */
  readonly floatReason?: string;
}

/** A product of two activations: it has no weight, but an integer kernel. */
export interface ActivationProduct {
  readonly node: Node;
  readonly operands: readonly [ValueName, ValueName];
}

/** A node that holds a constant which a user might expect to be quantized, and why it is not. */
export interface Rejected {
  readonly node: Node;
  readonly reason: string;
}

/** What one operator family knows about its nodes. */
export interface LayerFamily {
  readonly opTypes: readonly string[];
  /** The layers a node consists of, none where it has no constant weight, or why it cannot be quantized. */
  describe(node: Node, graph: Graph, types: ValueTypes): readonly Layer[] | Rejected;
}
