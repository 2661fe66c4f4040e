import type { TrainingInfo } from "../graph/model.js";
import { StringStringEntryProtoSchema } from "./gen/onnx_pb.js";
import { readGraph } from "./graph.js";
import type { Reading } from "./limits.js";
import { refuseExternalTensors } from "./references.js";
import { decodeText } from "./text.js";
import { bodyOf, cutRecords, decodeMessage, type WireRecord } from "./wire.js";

/** Field numbers of `TrainingInfoProto`. */
const field = { initialization: 1, algorithm: 2, initializationBinding: 3, updateBinding: 4 } as const;

const path = "training_info";

/**
 * Reads a `TrainingInfoProto`, which is written back as it was read, or not at all: its record is its origin.
 *
 * @throws RecoupError as `readGraph`, `onnx/unsupported` for tensors in another file
 */
export function readTraining(record: WireRecord, reading: Reading): TrainingInfo {
  const message = bodyOf(record, path);
  refuseExternalTensors("training", message, path);
  const parts = cutRecords(message, path, reading.budget);
  const of = (...wanted: readonly number[]) => parts.filter((part) => wanted.includes(part.field));
  // A body: it reads what the model's graph defines.
  const graphs = of(field.initialization, field.algorithm).map((part) =>
    readGraph(bodyOf(part, path), path, reading, 1),
  );
  const replaced = of(field.initializationBinding, field.updateBinding).map((part) =>
    decodeText(decodeMessage(StringStringEntryProtoSchema, bodyOf(part, path), path, reading.budget).key),
  );
  const own = new Set(graphs.flatMap(({ initializers }) => [...initializers.keys()]));
  const read = [...replaced, ...graphs.flatMap(({ captures }) => [...captures])];
  return { reads: new Set(read.filter((name) => !own.has(name))), origin: record };
}
