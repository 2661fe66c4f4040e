import { RecoupError } from "../errors.js";
import { bitsOf, bytesFor } from "../tensor/element-type.js";
import { elementCount } from "../tensor/shape.js";
import { integerValues, type Tensor } from "../tensor/tensor.js";
import { largestDense, type Reading } from "./limits.js";
import { type FileTensor, type NamedTensor, readShape, readTensor } from "./tensor.js";
import { bodyOf, cutRecords, malformed } from "./wire.js";

/** Field numbers of `SparseTensorProto`. */
const field = { values: 1, indices: 2, dims: 3 } as const;

/** A sparse initializer: written back sparse where nobody changed it, dense for everybody who reads its elements. */
interface SparseTensor extends FileTensor {
  readonly isSparse: true;
}

/**
 * Reads a `SparseTensorProto`, which is named by its values.
 *
 * @throws RecoupError as `readTensor`
 */
export function readSparseTensor(message: Uint8Array, path: string, reading: Reading): NamedTensor {
  const records = cutRecords(message, path, reading.budget);
  const part = (wanted: number, what: string) => {
    const record = records.findLast((candidate) => candidate.field === wanted);
    if (record === undefined) throw malformed(path, `has no ${what}`);
    return readTensor(bodyOf(record, path), `${path}.${what}`, reading);
  };
  const { name, tensor: values } = part(field.values, "values");
  const { tensor: indices } = part(field.indices, "indices");
  const shape = readShape(records, field.dims, name);
  const tensor: SparseTensor = {
    name,
    type: values.type,
    shape,
    sizeBytes: bytesFor(values.type, elementCount(shape)),
    bytes: () => fillIn(values, indices, shape, name),
    message,
    externalFiles: [...values.externalFiles, ...indices.externalFiles],
    isSparse: true,
  };
  return { name, tensor };
}

export function isSparseTensor(tensor: Tensor): tensor is SparseTensor {
  return "isSparse" in tensor;
}

function fillIn(values: Tensor, indices: Tensor, shape: readonly number[], name: string): Uint8Array {
  const size = bitsOf(values.type) / 8;
  const count = elementCount(values.shape);
  const refuse = (message: string) => new RecoupError("onnx/tensor", message, { field: name });
  if (!Number.isInteger(size) || size === 0) throw refuse(`is stored sparsely with elements of type ${values.type}`);
  if (elementCount(shape) * size > largestDense) {
    const message = `is stored sparsely, and [${shape}] takes more than ${largestDense} bytes`;
    throw new RecoupError("onnx/limit", message, { field: name });
  }
  const at = positionsOf(indices, count, shape);
  if (at === undefined) throw refuse(`has indices of shape [${indices.shape}] for ${count} values of [${shape}]`);
  const dense = new Uint8Array(elementCount(shape) * size);
  const bytes = values.bytes();
  for (const [i, position] of at.entries()) {
    if (!(position >= 0 && position * size < dense.byteLength)) throw refuse(`has an index outside [${shape}]`);
    dense.set(bytes.subarray(i * size, (i + 1) * size), position * size);
  }
  return dense;
}

/** Indices of a flattened tensor, which the file holds so, or as one index an axis. */
function positionsOf(indices: Tensor, count: number, shape: readonly number[]): readonly number[] | undefined {
  if (indices.type !== "int64" || indices.shape[0] !== count) return undefined;
  const stored = integerValues(indices);
  if (indices.shape.length === 1) return stored;
  if (indices.shape.length !== 2 || indices.shape[1] !== shape.length) return undefined;
  return Array.from({ length: count }, (_, i) =>
    shape.reduce((position, size, axis) => {
      const index = stored[i * shape.length + axis];
      return index >= 0 && index < size ? position * size + index : Number.NaN;
    }, 0),
  );
}
