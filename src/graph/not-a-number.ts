import { RecoupError } from "../errors.js";
import { findNotANumber } from "../tensor/not-a-number.js";
import type { Graph } from "./graph.js";

/**
 * A weight that is not a number makes every output so: better said at once than after the calibration. Infinity is left
 * alone, since attention masks hold it.
 *
 * @throws RecoupError `model/not-finite`, naming the initializer
 */
export function refuseNotANumber(graph: Graph): void {
  for (const [name, tensor] of graph.initializers) {
    const at = findNotANumber(tensor);
    if (at >= 0) throw new RecoupError("model/not-finite", `holds NaN at element ${at}`, { field: name });
  }
}
