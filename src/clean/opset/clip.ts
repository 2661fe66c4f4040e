import type { Node, ValueName } from "../../graph/graph.js";
import { withAttributes, withInputs } from "../../graph/node.js";
import { isFloatType } from "../../tensor/element-type.js";
import { floatTensor } from "../../tensor/tensor.js";
import { type ConversionScope, cannotRaise, type OpsetConverter } from "./converter.js";

/** From 11 on the limits are inputs of the data's own type; a limit that is not given does not limit. */
export const clipConverters: readonly OpsetConverter[] = [{ opType: "Clip", version: 11, convert: moveLimits }];

function moveLimits(node: Node, scope: ConversionScope): readonly Node[] {
  const limit = (name: "min" | "max"): ValueName => {
    const attribute = node.attributes.get(name);
    if (attribute?.kind !== "float") return "";
    const type = scope.elementType(node.inputs[0]);
    if (type === undefined || !isFloatType(type)) throw cannotRaise(node, 11, "the type of its input is not known");
    return scope.add(`${node.outputs[0]}_${name}`, floatTensor(type, [], [attribute.value]));
  };
  const [min, max] = [limit("min"), limit("max")];
  const inputs = max !== "" ? [node.inputs[0], min, max] : [node.inputs[0], min].filter((value) => value !== "");
  return [withInputs(withAttributes(node, { min: undefined, max: undefined }), inputs)];
}
