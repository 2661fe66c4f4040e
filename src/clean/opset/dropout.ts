import type { Node } from "../../graph/graph.js";
import { withAttributes, withInputs } from "../../graph/node.js";
import { float32Tensor } from "../../tensor/tensor.js";
import { type ConversionScope, type OpsetConverter, withOnlyOutput } from "./converter.js";

/**
 * Before 12 a Dropout passes its input on, and nothing is said of its mask; 10 made the mask bool, 12 made it all true.
 * So only the data can be taken along. From 12 on the ratio is an input.
 */
export const dropoutConverters: readonly OpsetConverter[] = [{ opType: "Dropout", version: 12, convert: moveRatio }];

function moveRatio(node: Node, scope: ConversionScope): readonly Node[] {
  const ratio = node.attributes.get("ratio");
  const bare = withOnlyOutput(withAttributes(node, { ratio: undefined }), 12, scope);
  if (ratio?.kind !== "float") return [bare];
  return [withInputs(bare, [node.inputs[0], scope.add(`${node.outputs[0]}_ratio`, float32Tensor([], [ratio.value]))])];
}
