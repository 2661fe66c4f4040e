import type { Node } from "../../graph/graph.js";
import { intAttribute, withAttributes, withInputs } from "../../graph/node.js";
import { int64Tensor } from "../../tensor/tensor.js";
import { type ConversionScope, inputOf, type OpsetConverter } from "./converter.js";

/** From 20 on the axis is an input, and -2 where it is not given; before it was 1. */
export const dftConverters: readonly OpsetConverter[] = [{ opType: "DFT", version: 20, convert: moveAxis }];

function moveAxis(node: Node, scope: ConversionScope): readonly Node[] {
  const axis = scope.add(`${node.outputs[0]}_axis`, int64Tensor([], [intAttribute(node, "axis", 1)]));
  return [withInputs(withAttributes(node, { axis: undefined }), [node.inputs[0], inputOf(node, 1) ?? "", axis])];
}
