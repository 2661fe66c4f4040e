import type { Node } from "../../graph/graph.js";
import { intsAttribute, withAttributes, withInputs } from "../../graph/node.js";
import { int64Tensor } from "../../tensor/tensor.js";
import { type ConversionScope, inputOf, type OpsetConverter } from "./converter.js";

export const splitConverters: readonly OpsetConverter[] = [
  { opType: "Split", version: 13, convert: moveSizes },
  { opType: "Split", version: 18, convert: countOutputs },
];

function moveSizes(node: Node, scope: ConversionScope): readonly Node[] {
  const sizes = intsAttribute(node, "split");
  if (sizes === undefined) return [node];
  const bare = withAttributes(node, { split: undefined });
  return [
    withInputs(bare, [node.inputs[0], scope.add(`${node.outputs[0]}_sizes`, int64Tensor([sizes.length], sizes))]),
  ];
}

/** Without sizes, 18 wants the number of equal parts said. */
function countOutputs(node: Node): readonly Node[] {
  return [inputOf(node, 1) === undefined ? withAttributes(node, { num_outputs: node.outputs.length }) : node];
}
