import { withAttributes } from "../../graph/node.js";
import type { OpsetConverter } from "./converter.js";

/** 16 shifts coordinates by half a pixel unless told not to. */
export const roiAlignConverters: readonly OpsetConverter[] = [
  {
    opType: "RoiAlign",
    version: 16,
    convert: (node) => [withAttributes(node, { coordinate_transformation_mode: "output_half_pixel" })],
  },
];
