import { cannotRaise, type OpsetConverter } from "./converter.js";

/** Experimental operators that the standard took back. */
const withdrawn = [
  "ATen",
  "Affine",
  "ConstantFill",
  "Crop",
  "DynamicSlice",
  "GRUUnit",
  "GivenTensorFill",
  "ImageScaler",
  "ParametricSoftplus",
  "Scale",
  "ScaledTanh",
];

/** Operators that have no successor of the same meaning. */
export const goneConverters: readonly OpsetConverter[] = [
  {
    opType: "Scan",
    version: 9,
    convert(node) {
      throw cannotRaise(node, 9, "before 9 a Scan runs over each sample of a batch on its own");
    },
  },
  ...withdrawn.map(
    (opType): OpsetConverter => ({
      opType,
      version: 10,
      convert(node) {
        throw cannotRaise(node, 10, "the standard has taken this operator back");
      },
    }),
  ),
];
