import { RecoupError } from "../errors.js";
import { isFloatType } from "../tensor/element-type.js";
import { float32Values } from "../tensor/tensor.js";
import type { Graph } from "./graph.js";

/**
 * A weight that is not a number makes every output so: better said at once than after the calibration. Infinity is left
 * alone, since attention masks hold it.
 *
 * @throws RecoupError `model/not-finite`, naming the initializer
 */
export function refuseNotANumber(graph: Graph): void {
  for (const [name, tensor] of graph.initializers) {
    if (!isFloatType(tensor.type)) continue;
    const at = findNotANumber(float32Values(tensor));
    if (at >= 0) throw new RecoupError("model/not-finite", `holds NaN at element ${at}`, { field: name });
  }
}

function findNotANumber(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) if (Number.isNaN(values[i])) return i;
  return -1;
}
