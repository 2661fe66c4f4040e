import type { Node } from "../../graph/graph.js";
import { floatAttribute, intsAttribute, stringAttribute, withAttributes, withInputs } from "../../graph/node.js";
import { isFloatType } from "../../tensor/element-type.js";
import { floatTensor, int64Tensor } from "../../tensor/tensor.js";
import { type ConversionScope, cannotRaise, type OpsetConverter } from "./converter.js";

/** From 11 on the widths and the value are inputs, the value of the data's own type and 0 where it is not given. */
export const padConverters: readonly OpsetConverter[] = [{ opType: "Pad", version: 11, convert: moveWidths }];

function moveWidths(node: Node, scope: ConversionScope): readonly Node[] {
  const [input] = node.inputs;
  const [output] = node.outputs;
  const widths = intsAttribute(node, "pads");
  if (widths === undefined) throw cannotRaise(node, 11, "it has no widths");
  const value = floatAttribute(node, "value", 0);
  const inputs = [input, scope.add(`${output}_pads`, int64Tensor([widths.length], widths))];
  if (value !== 0 && stringAttribute(node, "mode", "constant") === "constant") {
    const type = scope.elementType(input);
    if (type === undefined || !isFloatType(type)) throw cannotRaise(node, 11, "the type of its input is not known");
    inputs.push(scope.add(`${output}_value`, floatTensor(type, [], [value])));
  }
  return [withInputs(withAttributes(node, { pads: undefined, value: undefined }), inputs)];
}
