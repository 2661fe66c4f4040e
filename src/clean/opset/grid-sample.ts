import type { Node } from "../../graph/graph.js";
import { stringAttribute, withAttributes } from "../../graph/node.js";
import type { OpsetConverter } from "./converter.js";

/** 20 renamed two modes, since grids of other ranks came in; the default stayed the same mode. */
export const gridSampleConverters: readonly OpsetConverter[] = [
  { opType: "GridSample", version: 20, convert: renameMode },
];

const newNames: Readonly<Record<string, string>> = { bilinear: "linear", bicubic: "cubic" };

function renameMode(node: Node): readonly Node[] {
  const renamed = newNames[stringAttribute(node, "mode", "")];
  return [renamed === undefined ? node : withAttributes(node, { mode: renamed })];
}
