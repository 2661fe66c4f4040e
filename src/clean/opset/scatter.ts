import type { OpsetConverter } from "./converter.js";

/** 11 renamed Scatter. */
export const scatterConverters: readonly OpsetConverter[] = [
  { opType: "Scatter", version: 11, convert: (node) => [{ ...node, opType: "ScatterElements" }] },
];
