import { RecoupError } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ExternalReader } from "./external-data.js";
import { type FileTensor, type NamedTensor, readTensor } from "./tensor.js";
import { bodyOf, cutRecords, varintsOf } from "./wire.js";

/** Field numbers of `SparseTensorProto`. */
const field = { values: 1, dims: 3 } as const;

/** A sparse initializer: a constant that is kept as it is and whose elements are never asked for. */
interface SparseTensor extends FileTensor {
  readonly isSparse: true;
}

/** Reads a `SparseTensorProto`, which is named by its values. */
export function readSparseTensor(message: Uint8Array, path: string, external: ExternalReader): NamedTensor {
  const records = cutRecords(message, path);
  const values = records.find((record) => record.field === field.values);
  if (values === undefined) throw new RecoupError("onnx/malformed", "has no values", { field: path });
  const { name, tensor } = readTensor(bodyOf(values, path), path, external);
  const sparse: SparseTensor = {
    name,
    type: tensor.type,
    shape: varintsOf(records, field.dims, path).map(Number),
    sizeBytes: tensor.sizeBytes,
    bytes() {
      throw new RecoupError("onnx/unsupported", "is stored sparsely", { field: name });
    },
    message,
    isExternal: false,
    isSparse: true,
  };
  return { name, tensor: sparse };
}

export function isSparseTensor(tensor: Tensor): tensor is SparseTensor {
  return "isSparse" in tensor;
}
