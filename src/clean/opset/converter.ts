import { RecoupError } from "../../errors.js";
import type { Graph, Node, ValueName } from "../../graph/graph.js";
import { labelOf } from "../../graph/node.js";
import type { ElementType } from "../../tensor/element-type.js";
import type { Tensor } from "../../tensor/tensor.js";

/** How one operator's nodes are said in the operator set that changed its meaning. */
export interface OpsetConverter {
  readonly opType: string;
  /** The operator set that brought the change: nodes of earlier sets are converted. */
  readonly version: number;
  /**
   * Nodes that compute the same in operator set `version`, under the same output names.
   *
   * @throws RecoupError `onnx/unsupported` where there are none
   */
  convert(node: Node, scope: ConversionScope): readonly Node[];
}

/** What a converter may know of the graph around a node, and ask of it. */
export interface ConversionScope {
  /** The graph the node stands in, before any conversion. */
  readonly graph: Graph;
  /** The tensor of an initializer or `Constant` node, those of outer graphs included. */
  constant(value: ValueName): Tensor | undefined;
  elementType(value: ValueName): ElementType | undefined;
  rank(value: ValueName): number | undefined;
  /** A name that is free in the whole model. */
  fresh(base: string): string;
  /** Adds an initializer under a free name. */
  add(base: string, tensor: Tensor): ValueName;
}

/** An error for a node whose meaning newer operator sets cannot express. */
export function cannotRaise(node: Node, version: number, reason: string): RecoupError {
  const message = `${node.opType} cannot be raised to operator set ${version}: ${reason}`;
  return new RecoupError("onnx/unsupported", message, { field: labelOf(node) });
}

/** Whether somebody reads a value or it leaves its graph. */
export function isUsed(graph: Graph, value: ValueName | undefined): boolean {
  return value !== undefined && value !== "" && (graph.isOutput(value) || graph.consumers(value).length > 0);
}

/** The node without outputs beyond the first; an error where somebody uses one. */
export function withOnlyOutput(node: Node, version: number, scope: ConversionScope): Node {
  if (node.outputs.slice(1).some((output) => isUsed(scope.graph, output))) {
    throw cannotRaise(node, version, "one of its further outputs is used, and its meaning changed");
  }
  return { ...node, outputs: node.outputs.slice(0, 1) };
}

/** The name of an optional input; undefined where it is not given. */
export function inputOf(node: Node, index: number): ValueName | undefined {
  return node.inputs[index] === "" ? undefined : node.inputs[index];
}
