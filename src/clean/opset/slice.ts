import type { Node } from "../../graph/graph.js";
import { intsAttribute, withAttributes, withInputs } from "../../graph/node.js";
import { int64Tensor } from "../../tensor/tensor.js";
import { type ConversionScope, cannotRaise, type OpsetConverter } from "./converter.js";

/** From 10 on the ranges are inputs. */
export const sliceConverters: readonly OpsetConverter[] = [{ opType: "Slice", version: 10, convert: moveRanges }];

function moveRanges(node: Node, scope: ConversionScope): readonly Node[] {
  const [starts, ends, axes] = ["starts", "ends", "axes"].map((name) => intsAttribute(node, name));
  if (starts === undefined || ends === undefined) throw cannotRaise(node, 10, "it has no starts or no ends");
  const given = { starts, ends, ...(axes === undefined ? {} : { axes }) };
  const inputs = Object.entries(given).map(([name, values]) =>
    scope.add(`${node.outputs[0]}_${name}`, int64Tensor([values.length], values)),
  );
  const bare = withAttributes(node, { starts: undefined, ends: undefined, axes: undefined });
  return [withInputs(bare, [node.inputs[0], ...inputs])];
}
