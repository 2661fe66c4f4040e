import { RecoupError } from "../errors.js";

export interface NestedArray {
  readonly shape: readonly number[];
  /** In row-major order. */
  readonly values: readonly (number | boolean)[];
}

/** No model takes more axes; the limit keeps a hostile file from being walked without end. */
const largestRank = 16;

/**
 * Shape and values of nested arrays as JSON gives them; a single number has the shape `[]`.
 *
 * @param field what the error names
 * @throws RecoupError `data/mismatch` for rows of different lengths, for an empty array, for anything but numbers and
 * booleans
 */
export function readNestedArray(value: unknown, field: string): NestedArray {
  const shape: number[] = [];
  for (let inner = value; Array.isArray(inner); inner = inner[0]) {
    if (inner.length === 0) throw mismatch("is an empty list", field);
    if (shape.push(inner.length) > largestRank) throw mismatch(`has more than ${largestRank} axes`, field);
  }
  const values: (number | boolean)[] = [];
  const collect = (inner: unknown, axis: number): void => {
    if (axis === shape.length) {
      if (Array.isArray(inner)) throw mismatch("mixes numbers and lists", field);
      if (typeof inner !== "number" && typeof inner !== "boolean") {
        throw mismatch(`holds ${JSON.stringify(inner)?.slice(0, 40)}, which is no number`, field);
      }
      values.push(inner);
      return;
    }
    if (!Array.isArray(inner)) throw mismatch("mixes numbers and lists", field);
    if (inner.length !== shape[axis]) {
      throw mismatch(`has lists of ${shape[axis]} and of ${inner.length} beside each other`, field);
    }
    for (const item of inner) collect(item, axis + 1);
  };
  collect(value, 0);
  return { shape, values };
}

function mismatch(message: string, field: string): RecoupError {
  return new RecoupError("data/mismatch", message, { field });
}
