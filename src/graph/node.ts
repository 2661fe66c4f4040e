import type { Tensor } from "../tensor/tensor.js";
import type { Attribute, Graph, Node, ValueName } from "./graph.js";

type PlainAttribute = number | string | readonly number[] | Tensor;

/**
 * A new node of the standard's own operators. Whole numbers become `int` attributes; for a float attribute pass
 * `{ kind: "float", value }`.
 */
export function makeNode(
  opType: string,
  inputs: readonly ValueName[],
  outputs: readonly ValueName[],
  attributes: Readonly<Record<string, PlainAttribute | Attribute>> = {},
  name = outputs[0],
): Node {
  const entries = Object.entries(attributes).map(([key, value]) => [key, toAttribute(value)] as const);
  return { name, opType, domain: "", inputs, outputs, attributes: new Map(entries) };
}

/** The same node reading other values. */
export function withInputs(node: Node, inputs: readonly ValueName[]): Node {
  return { ...node, inputs };
}

/** The same node writing other values. */
export function withOutputs(node: Node, outputs: readonly ValueName[]): Node {
  return { ...node, outputs };
}

/** The same node with some attributes set; `undefined` takes one away. */
export function withAttributes(node: Node, changes: Readonly<Record<string, PlainAttribute | undefined>>): Node {
  const attributes = new Map(node.attributes);
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) attributes.delete(key);
    else attributes.set(key, toAttribute(value));
  }
  return { ...node, attributes };
}

/** Whether the node is one of the standard's own operators. */
export function isStandard(node: Node): boolean {
  return node.domain === "" || node.domain === "ai.onnx";
}

/** What a person calls the operator: with its domain where it is not the standard's own. */
export function operatorName(node: Node): string {
  return isStandard(node) ? node.opType : `${node.domain}.${node.opType}`;
}

/** Whether the node is the standard's operator of that name, not another domain's. */
export function isOperator(node: Node, ...opTypes: readonly string[]): boolean;
export function isOperator(node: Node | undefined, ...opTypes: readonly string[]): node is Node;
export function isOperator(node: Node | undefined, ...opTypes: readonly string[]): boolean {
  return node !== undefined && isStandard(node) && opTypes.includes(node.opType);
}

export function intAttribute(node: Node, key: string, fallback: number): number {
  const attribute = node.attributes.get(key);
  return attribute?.kind === "int" ? attribute.value : fallback;
}

export function floatAttribute(node: Node, key: string, fallback: number): number {
  const attribute = node.attributes.get(key);
  return attribute?.kind === "float" ? attribute.value : fallback;
}

export function intsAttribute(node: Node, key: string): readonly number[] | undefined {
  const attribute = node.attributes.get(key);
  return attribute?.kind === "ints" ? attribute.value : undefined;
}

export function stringAttribute(node: Node, key: string, fallback: string): string {
  const attribute = node.attributes.get(key);
  return attribute?.kind === "string" ? attribute.value : fallback;
}

/** What a person calls the node: its name, or its first output where it has none. */
export function labelOf(node: Node): string {
  return node.name || node.outputs.find((output) => output !== "") || node.opType;
}

/** Whether nobody reads anything of a node but its first output; a node may have more than its operator knows. */
export function hasOneResult(graph: Graph, node: Node): boolean {
  return node.outputs.slice(1).every((output) => graph.consumers(output).length === 0 && !graph.isOutput(output));
}

/** The only reader of a value, where there is exactly one and the value does not leave the graph. */
export function onlyConsumer(graph: Graph, value: ValueName): Node | undefined {
  const readers = graph.consumers(value);
  return readers.length === 1 && !graph.isOutput(value) ? readers[0] : undefined;
}

function toAttribute(value: PlainAttribute | Attribute): Attribute {
  if (typeof value === "number") return { kind: "int", value };
  if (typeof value === "string") return { kind: "string", value };
  if (Array.isArray(value)) return { kind: "ints", value };
  if ("kind" in value) return value;
  return { kind: "tensor", value: value as Tensor };
}
