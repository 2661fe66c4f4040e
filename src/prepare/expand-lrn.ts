import type { Graph, Node, ValueName } from "../graph/graph.js";
import type { NameSource } from "../graph/names.js";
import { floatAttribute, intAttribute, isOperator } from "../graph/node.js";
import type { GraphPatch } from "../graph/patch.js";
import { PatchWriter } from "../graph/patch-writer.js";
import { elementTypeOf, shapeOf, type ValueTypes } from "../graph/value-types.js";
import { float32Tensor, int64Tensor } from "../tensor/tensor.js";

/** Slice takes this as "to the end". */
const toTheEnd = Number.MAX_SAFE_INTEGER;

/** How a power is made of square roots. */
const rootsByExponent: ReadonlyMap<number, readonly ("root" | "fourth root")[]> = new Map([
  [0.5, ["root"]],
  [0.75, ["root", "fourth root"]],
]);

/**
 * Writes LRN out as shifted sums and square roots: y = x / (bias + alpha/size · Σ x²)^beta over neighbouring channels.
 * The same function, but onnxruntime's own kernel raises every element to a power: on GoogLeNet two LRN nodes take longer
 * than all quantized convolutions together.
 *
 * Only for beta 0.5 and 0.75, where the power is made of square roots; that covers the published networks.
 */
export function expandLrn(graph: Graph, types: ValueTypes, names: NameSource): readonly GraphPatch[] {
  return graph.nodes
    .filter((node) => isOperator(node, "LRN") && rootsByExponent.has(round(floatAttribute(node, "beta", 0.75))))
    .filter(
      (node) => elementTypeOf(types, node.inputs[0]) === "float32" && shapeOf(types, node.inputs[0]) !== undefined,
    )
    .map((node) => expand(node, shapeOf(types, node.inputs[0])?.length ?? 0, names));
}

function expand(node: Node, rank: number, names: NameSource): GraphPatch {
  const writer = new PatchWriter(names);
  const [x] = node.inputs;
  const [y] = node.outputs;
  const sum = writeNeighbourSum(writer, node, rank);
  const root = writer.node("Sqrt", [sum], `${y}_root`);
  const needsFourth = rootsByExponent.get(round(floatAttribute(node, "beta", 0.75)))?.includes("fourth root");
  const power = needsFourth
    ? writer.node("Mul", [root, writer.node("Sqrt", [root], `${y}_fourth_root`)], `${y}_power`)
    : root;
  writer.nodeTo(y, "Div", [x, power]);
  return writer.finish("expand LRN", { remove: [node] });
}

/** bias + alpha/size · Σ x² over the channels from floor((size-1)/2) below to ceil((size-1)/2) above. */
function writeNeighbourSum(writer: PatchWriter, node: Node, rank: number): ValueName {
  const [x] = node.inputs;
  const [y] = node.outputs;
  const size = intAttribute(node, "size", 1);
  const below = Math.floor((size - 1) / 2);
  const index = (value: number, base: string) => writer.constant(`${y}_${base}`, int64Tensor([1], [value]));
  const alpha = writer.constant(`${y}_alpha`, float32Tensor([], [floatAttribute(node, "alpha", 1e-4) / size]));
  const squares = writer.node("Mul", [writer.node("Mul", [x, x], `${y}_squares`), alpha], `${y}_scaled`);
  const padding = new Array<number>(2 * rank).fill(0);
  padding[1] = below;
  padding[rank + 1] = size - 1 - below;
  const pads = writer.constant(`${y}_padding`, int64Tensor([padding.length], padding));
  const padded = writer.node("Pad", [squares, pads], `${y}_padded`);
  const axis = index(1, "channels");
  let sum = writer.constant(`${y}_bias`, float32Tensor([], [floatAttribute(node, "bias", 1)]));
  for (let shift = 0; shift < size; shift++) {
    // The last neighbour reaches to the end of the padding, the others stop short of it.
    const end = shift === size - 1 ? toTheEnd : shift - (size - 1);
    const limits = [index(shift, "start"), index(end, "end"), axis];
    const neighbour = writer.node("Slice", [padded, ...limits], `${y}_neighbour`);
    sum = writer.node("Add", [neighbour, sum], `${y}_sum`);
  }
  return sum;
}

/** The attribute is a float32, which has no 0.75 problem but might carry noise of a converter. */
function round(beta: number): number {
  return Math.round(beta * 1e6) / 1e6;
}
