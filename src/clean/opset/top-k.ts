import type { Node } from "../../graph/graph.js";
import { intAttribute, withAttributes, withInputs } from "../../graph/node.js";
import { int64Tensor } from "../../tensor/tensor.js";
import type { ConversionScope, OpsetConverter } from "./converter.js";

/** From 10 on the count is an input. What 11 added (`largest`, `sorted`) has the old meaning as its default. */
export const topKConverters: readonly OpsetConverter[] = [{ opType: "TopK", version: 10, convert: moveCount }];

function moveCount(node: Node, scope: ConversionScope): readonly Node[] {
  const count = scope.add(
    `${node.outputs.find((output) => output !== "")}_k`,
    int64Tensor([1], [intAttribute(node, "k", 1)]),
  );
  return [withInputs(withAttributes(node, { k: undefined }), [node.inputs[0], count])];
}
