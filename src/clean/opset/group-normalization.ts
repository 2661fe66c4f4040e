import type { Node, ValueName } from "../../graph/graph.js";
import { intAttribute, makeNode, withInputs } from "../../graph/node.js";
import { int64Tensor } from "../../tensor/tensor.js";
import type { ConversionScope, OpsetConverter } from "./converter.js";

/** Scale and bias are given per group in 18 and per channel from 21 on: each group's value is repeated. */
export const groupNormalizationConverters: readonly OpsetConverter[] = [
  { opType: "GroupNormalization", version: 21, convert: repeatParameters },
];

function repeatParameters(node: Node, scope: ConversionScope): readonly Node[] {
  const [input, scale, bias] = node.inputs;
  const [output] = node.outputs;
  const groups = intAttribute(node, "num_groups", 1);
  const name = (what: string) => scope.fresh(`${output}_${what}`);
  const [channels, perGroup, repeated] = [name("channels"), name("channels_per_group"), name("repeated_shape")];
  const groupCount = scope.add(`${output}_groups`, int64Tensor([1], [groups]));
  const column = scope.add(`${output}_column_shape`, int64Tensor([2], [groups, 1]));
  const flat = scope.add(`${output}_flat_shape`, int64Tensor([1], [-1]));
  const repeat = (value: ValueName, what: string): { readonly nodes: readonly Node[]; readonly result: ValueName } => {
    const [standing, wide, result] = [name(`${what}_column`), name(`${what}_matrix`), name(`${what}_per_channel`)];
    const nodes = [
      makeNode("Reshape", [value, column], [standing]),
      makeNode("Expand", [standing, repeated], [wide]),
      makeNode("Reshape", [wide, flat], [result]),
    ];
    return { nodes, result };
  };
  const [scales, biases] = [repeat(scale, "scale"), repeat(bias, "bias")];
  return [
    makeNode("Shape", [input], [channels], { start: 1, end: 2 }),
    makeNode("Div", [channels, groupCount], [perGroup]),
    makeNode("Concat", [groupCount, perGroup], [repeated], { axis: 0 }),
    ...scales.nodes,
    ...biases.nodes,
    withInputs(node, [input, scales.result, biases.result]),
  ];
}
