import { RecoupError } from "../errors.js";
import { bitsOf, type ElementType, isFloatType } from "../tensor/element-type.js";
import { bytesOf, floatTensor, type Tensor, tensorFromBytes } from "../tensor/tensor.js";
import { arrayTypeOf } from "../tensor/typed-array.js";

/**
 * A tensor of the element type that a model asks for.
 *
 * @param field what the error names
 * @throws RecoupError `data/mismatch` where a value is not of the type or does not fit into it, or where the type is one
 * that data files have no values for
 */
export function tensorOf(
  type: ElementType,
  shape: readonly number[],
  values: readonly (number | boolean)[],
  field: string,
): Tensor {
  const refuse = (value: number | boolean) => new RecoupError("data/mismatch", `${value} is no ${type}`, { field });
  if (type === "bool") {
    const wrong = values.find((value) => value !== true && value !== false && value !== 0 && value !== 1);
    if (wrong !== undefined) throw refuse(wrong);
    return tensorFromBytes(type, shape, Uint8Array.from(values, Number));
  }
  const boolean = values.find((value) => typeof value === "boolean");
  if (boolean !== undefined) throw refuse(boolean);
  const numbers = values as readonly number[];
  if (isFloatType(type)) return floatTensor(type, shape, numbers);
  const arrayType = arrayTypeOf(type);
  if (!arrayType) throw new RecoupError("data/mismatch", `takes ${type}, which cannot be given as numbers`, { field });
  const array = new arrayType(numbers.length);
  const [lowest, highest] = limitsOf(type);
  for (const [i, value] of numbers.entries()) {
    if (!Number.isSafeInteger(value) || value < lowest || value > highest) throw refuse(value);
    if (array instanceof BigInt64Array || array instanceof BigUint64Array) array[i] = BigInt(value);
    else array[i] = value;
  }
  return tensorFromBytes(type, shape, bytesOf(array));
}

function limitsOf(type: ElementType): readonly [number, number] {
  const bits = bitsOf(type);
  return type.startsWith("u") ? [0, 2 ** bits - 1] : [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1];
}
