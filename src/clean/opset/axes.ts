import type { Node } from "../../graph/graph.js";
import { intsAttribute, withAttributes, withInputs } from "../../graph/node.js";
import { int64Tensor } from "../../tensor/tensor.js";
import type { ConversionScope, OpsetConverter } from "./converter.js";

const reductions = [
  "ReduceL1",
  "ReduceL2",
  "ReduceLogSum",
  "ReduceLogSumExp",
  "ReduceMax",
  "ReduceMean",
  "ReduceMin",
  "ReduceProd",
  "ReduceSumSquare",
];

/** Operators whose `axes` moved from an attribute to the second input. No axes at all mean the same before and after. */
export const axesConverters: readonly OpsetConverter[] = [
  ...["ReduceSum", "Squeeze", "Unsqueeze"].map((opType) => ({ opType, version: 13, convert: moveAxes })),
  ...reductions.map((opType) => ({ opType, version: 18, convert: moveAxes })),
];

function moveAxes(node: Node, scope: ConversionScope): readonly Node[] {
  const axes = intsAttribute(node, "axes");
  const bare = withAttributes(node, { axes: undefined });
  if (axes === undefined || axes.length === 0) return [bare];
  return [withInputs(bare, [node.inputs[0], scope.add(`${node.outputs[0]}_axes`, int64Tensor([axes.length], axes))])];
}
