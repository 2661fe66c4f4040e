import type { ElementType } from "../tensor/element-type.js";
import type { Dimension, ValueName, ValueType } from "./graph.js";

/** Type and shape of the values of a graph. Sizes that depend on the input are names or null. */
export type ValueTypes = ReadonlyMap<ValueName, ValueType>;

/** Shape of a value where its rank is known. */
export function shapeOf(types: ValueTypes, value: ValueName): readonly Dimension[] | undefined {
  const type = types.get(value);
  return type?.kind === "tensor" ? type.shape : undefined;
}

export function elementTypeOf(types: ValueTypes, value: ValueName): ElementType | undefined {
  const type = types.get(value);
  return type?.kind === "tensor" ? type.elementType : undefined;
}
