import { intAttribute, labelOf } from "../graph/node.js";
import { elementCount } from "../tensor/shape.js";
import type { LayerFamily } from "./layer.js";
import { findWeight } from "./weight.js";

/** Tables with fewer elements than this are position or bias tables: their bytes do not count, their precision does. */
const smallestTable = 4096;

/** `Gather` of rows of a constant table `[V, D]`: a scale per row. */
export const embedding: LayerFamily = {
  opTypes: ["Gather"],
  describe(node, graph) {
    const found = findWeight(graph, node, 0);
    if (!found || found.transpose) return [];
    const shape = graph.constant(found.weight)?.shape ?? [];
    if (intAttribute(node, "axis", 0) !== 0 || shape.length !== 2) {
      return { node, reason: `${labelOf(node)} does not look up rows of a matrix` };
    }
    if (elementCount(shape) < smallestTable)
      return { node, reason: `a table of ${elementCount(shape)} elements is too small` };
    const floatReason = "a table that is looked up in is not multiplied";
    return [{ node, ...found, channelAxis: 0, outputAxis: -1, floatReason }];
  },
};
