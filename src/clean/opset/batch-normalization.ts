import type { Node } from "../../graph/graph.js";
import { intAttribute, withAttributes } from "../../graph/node.js";
import { type ConversionScope, cannotRaise, type OpsetConverter, withOnlyOutput } from "./converter.js";

export const batchNormalizationConverters: readonly OpsetConverter[] = [
  { opType: "BatchNormalization", version: 9, convert: dropSpatial },
  { opType: "BatchNormalization", version: 14, convert: dropStatistics },
];

/** 9 took away statistics per position, which no later operator has. */
function dropSpatial(node: Node): readonly Node[] {
  if (intAttribute(node, "spatial", 1) === 0) throw cannotRaise(node, 9, "it has statistics for each position");
  return [withAttributes(node, { spatial: undefined })];
}

/** Until 13 further outputs meant training, with statistics that 14 no longer gives. */
function dropStatistics(node: Node, scope: ConversionScope): readonly Node[] {
  return [withOnlyOutput(node, 14, scope)];
}
