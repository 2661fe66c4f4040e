import type { Node } from "../../graph/graph.js";
import { intAttribute, makeNode, withAttributes } from "../../graph/node.js";
import { resolveAxis } from "../../tensor/shape.js";
import type { ConversionScope, OpsetConverter } from "./converter.js";

/**
 * Until 12 the input is seen as a matrix whose columns are all axes from `axis` (default 1) on; from 13 on one axis
 * (default -1) is worked along. The two agree on the last axis; elsewhere the matrix is spelled out.
 */
export const softmaxConverters: readonly OpsetConverter[] = ["Softmax", "LogSoftmax", "Hardmax"].map((opType) => ({
  opType,
  version: 13,
  convert: workAlongLastAxis,
}));

function workAlongLastAxis(node: Node, scope: ConversionScope): readonly Node[] {
  const [input] = node.inputs;
  const [output] = node.outputs;
  const axis = intAttribute(node, "axis", 1);
  const rank = scope.rank(input);
  const isLast = axis === -1 || (rank !== undefined && resolveAxis(axis, rank) === rank - 1);
  if (isLast) return [withAttributes(node, { axis: -1 })];
  const matrix = scope.fresh(`${output}_matrix`);
  const result = scope.fresh(`${output}_of_matrix`);
  const shape = scope.fresh(`${output}_shape`);
  return [
    makeNode("Shape", [input], [shape]),
    makeNode("Flatten", [input], [matrix], { axis }),
    { ...withAttributes(node, { axis: -1 }), inputs: [matrix], outputs: [result] },
    makeNode("Reshape", [result, shape], [output], {}, scope.fresh(output)),
  ];
}
