import type { Block } from "../blocks/blocks.js";
import { nodesBetween } from "../graph/extract.js";
import { fedInputs } from "../graph/fed-inputs.js";
import { type Graph, type Node, readsOf, type ValueName } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";

/** Too much to be computed again for every block: only shapes, masks and tables of positions are. */
const lightOperators: readonly string[] = [
  ...[
    "Shape",
    "Size",
    "Constant",
    "ConstantOfShape",
    "Range",
    "Cast",
    "Identity",
    "Gather",
    "Slice",
    "Split",
    "Concat",
  ],
  ...["Unsqueeze", "Squeeze", "Reshape", "Flatten", "Expand", "Tile", "Transpose", "Where", "Equal", "Greater", "Less"],
  ...["GreaterOrEqual", "LessOrEqual", "Not", "And", "Or", "Add", "Sub", "Mul", "Div", "Mod", "Neg", "Cos", "Sin"],
  ...["QuantizeLinear", "DequantizeLinear", "Floor", "Min", "Max", "Trilu", "CumSum", "Pow", "Sqrt"],
];

/**
 * Blocks of the float network as far as another network can be cut at the same places: where all values at the cut are in
 * both, and what lies behind can be computed from them alone, and from inputs of the network where only shapes, masks and
 * the like are needed.
 *
 * @param aligned the values that both networks have
 */
export function alignBlocks(
  blocks: readonly Block[],
  current: Graph,
  aligned: ReadonlySet<ValueName>,
): readonly Block[] {
  const inputs = fedInputs(current).map(({ name }) => name);
  const merged: Block[] = [];
  let nodes: Node[] = [];
  let extra: ReadonlySet<ValueName> = new Set();
  // From the end: what a later block reads of the inputs has to be carried through all earlier ones.
  for (const [i, block] of [...blocks.entries()].reverse()) {
    nodes = [...block.nodes, ...nodes];
    const outputs = merged[0]?.inputs ?? block.outputs;
    const isFirst = i === 0;
    const behind = valuesBehind(blocks, i, aligned, current);
    const needed = isFirst ? new Set(inputs) : neededInputs(current, block.inputs, behind, aligned, inputs);
    if (needed === undefined) continue;
    extra = new Set([...extra, ...needed]);
    merged.unshift({ nodes, inputs: [...new Set([...block.inputs, ...extra])], outputs });
    nodes = [];
  }
  return merged;
}

/** The values behind a cut that somebody may ask for. */
function valuesBehind(
  blocks: readonly Block[],
  index: number,
  aligned: ReadonlySet<ValueName>,
  current: Graph,
): readonly ValueName[] {
  const values = blocks.slice(index).flatMap((block) => block.nodes.flatMap((node) => node.outputs));
  return [...values.filter((value) => aligned.has(value)), ...current.outputs.map(({ name }) => name)];
}

/** The inputs of the network that are needed besides the values at a cut; undefined where it cannot be cut there. */
function neededInputs(
  current: Graph,
  cut: readonly ValueName[],
  behind: readonly ValueName[],
  aligned: ReadonlySet<ValueName>,
  inputs: readonly ValueName[],
): readonly ValueName[] | undefined {
  if (!cut.every((value) => aligned.has(value))) return undefined;
  const values = new Set(cut);
  const between = nodesBetween(current, values, behind);
  const needed = current.nodes.filter((node) => between.has(node));
  const fromInputs = new Set(inputs.filter((input) => !values.has(input)));
  const fromCut = new Set(cut);
  const found = new Set<ValueName>();
  for (const node of needed) {
    const reads = [...readsOf(node)];
    const readsInputs = reads.filter((value) => fromInputs.has(value));
    const isBehind = reads.some((value) => fromCut.has(value));
    if (isBehind) for (const output of node.outputs) fromCut.add(output);
    else if (readsInputs.length > 0) {
      if (!isOperator(node, ...lightOperators)) return undefined;
      for (const output of node.outputs) fromInputs.add(output);
    }
    for (const value of readsInputs) if (inputs.includes(value)) found.add(value);
  }
  return [...found];
}
