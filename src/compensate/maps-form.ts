import type { Section } from "../blocks/sections.js";
import type { RowForm } from "../calibrate/block-rows.js";
import type { Graph, Node, ValueName } from "../graph/graph.js";
import { intAttribute, intsAttribute, isOperator } from "../graph/node.js";
import { patchesOf } from "../operators/convolution.js";

/** Lengths of the axes of maps; names or nothing where they are open. */
type MapSize = readonly (number | string | null)[];

/**
 * The convolution that brings maps of one size to another, as the nodes of a section themselves do; where sizes are open, one
 * that does so for all of them.
 *
 * @param size of its kernel, odd
 */
export function mapsForm(
  graph: Graph,
  section: Section,
  from: MapSize,
  to: MapSize,
  size: number,
): RowForm | { readonly reason: string } {
  const strides = stridesOf(section, from.length);
  if (strides === undefined) return { reason: "how its maps shrink is not known" };
  const half = Math.floor(size / 2);
  const ends: number[] = [];
  const isRegular = section.nodes.every((node) => dividesSizes(graph, node));
  for (const [i, stride] of strides.entries()) {
    const [input, output] = [from[i], to[i]];
    if (typeof input !== "number" || typeof output !== "number") {
      // A global pooling lies on the way.
      if (typeof output === "number") return { reason: `the size of its maps is open, and ${output} is left of it` };
      const isSame = input !== null && input === output && stride === 1;
      if (!isSame && !isRegular) return { reason: "the size of its maps is open" };
      ends.push(half);
      continue;
    }
    // So many zeros behind the map, or up to a stride more, give maps of the wanted size.
    const least = (output - 1) * stride + size - input - half;
    const end = Math.max(least, Math.min(half, least + stride - 1));
    if (end < 0) return { reason: `no convolution of stride ${stride} makes ${output} of ${input} positions` };
    ends.push(end);
  }
  const kernel = strides.map(() => size);
  return { kind: "maps", kernel, strides, padding: [...strides.map(() => half), ...ends] };
}

/** The product of the strides on the ways from the entry to the exit; where a Slice takes their place, of the others. */
function stridesOf({ entry, exit, nodes }: Section, axes: number): readonly number[] | undefined {
  const found = new Map<ValueName, readonly number[]>([[entry, new Array<number>(axes).fill(1)]]);
  for (const node of nodes) {
    const ways = node.inputs.flatMap((input) => [found.get(input) ?? []]).filter((way) => way.length > 0);
    if (ways.length === 0) continue;
    if (isOperator(node, "ConvTranspose", "Resize", "Upsample", "DepthToSpace")) return undefined;
    const most = ways.reduce((one, other) => one.map((stride, i) => Math.max(stride, other[i])));
    const own = isOperator(node, "Conv", "MaxPool", "AveragePool", "LpPool")
      ? intsAttribute(node, "strides")
      : undefined;
    for (const output of node.outputs) found.set(output, own === undefined ? most : most.map((s, i) => s * own[i]));
  }
  return found.get(exit);
}

/** Operators that leave the sizes of maps as they are, or broadcast maps of one element. */
const elementwise: readonly string[] = [
  ...["Abs", "Add", "BatchNormalization", "Cast", "Clip", "Div", "Dropout", "Elu", "Erf", "Exp", "Gelu"],
  ...["GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN"],
  ...["LeakyRelu", "Mish", "Mul", "PRelu", "Pow", "Relu", "Selu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"],
];

function isList(graph: Graph, value: ValueName): boolean {
  return graph.constant(value)?.shape.length === 1;
}

/** Whether a node makes ⌈n / stride⌉ positions of n, whatever n is: as a kernel of 1 with the same stride does. */
function dividesSizes(graph: Graph, node: Node): boolean {
  if (isOperator(node, ...elementwise)) return true;
  // A choice of channels, as of those that are there twice.
  if (isOperator(node, "Gather")) return intAttribute(node, "axis", 0) === 1 && isList(graph, node.inputs[1]);
  if (isOperator(node, "Concat")) return intAttribute(node, "axis", 1) === 1;
  if (!isOperator(node, "Conv", "MaxPool", "AveragePool", "LpPool")) return false;
  const kernel = intsAttribute(node, "kernel_shape") ?? graph.constant(node.inputs[1] ?? "")?.shape.slice(2);
  const { strides, dilations, padding } = patchesOf(node, kernel ?? []);
  if (intAttribute(node, "ceil_mode", 0) === 1 && strides.some((stride) => stride > 1)) return false;
  if (typeof padding === "string") return true;
  if (kernel === undefined) return false;
  return kernel.every((size, axis) => padding[axis] + padding[axis + kernel.length] === (size - 1) * dilations[axis]);
}
