import type { Attribute, Node } from "../graph/graph.js";
import { isOperator } from "../graph/node.js";
import { float32Tensor, int64Tensor, type Tensor } from "../tensor/tensor.js";

const forms = ["value", "value_float", "value_floats", "value_int", "value_ints"];

/** The tensor of a `Constant` node; undefined for any other node, and for strings and sparse tensors. */
export function constantTensor(node: Node | undefined): Tensor | undefined {
  if (!isOperator(node, "Constant")) return undefined;
  const given = forms.map((form) => node.attributes.get(form)).find((attribute) => attribute !== undefined);
  return given && tensorOf(given);
}

function tensorOf(attribute: Attribute): Tensor | undefined {
  switch (attribute.kind) {
    case "tensor":
      return attribute.value.type === "string" ? undefined : attribute.value;
    case "float":
      return float32Tensor([], [attribute.value]);
    case "floats":
      return float32Tensor([attribute.value.length], attribute.value);
    case "int":
      return int64Tensor([], [attribute.value]);
    case "ints":
      return int64Tensor([attribute.value.length], attribute.value);
    default:
      return undefined;
  }
}
