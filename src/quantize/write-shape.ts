import type { ValueName } from "../graph/graph.js";
import type { PatchWriter } from "../graph/patch-writer.js";
import { int64Tensor } from "../tensor/tensor.js";
import type { StoredWeight } from "./stored-weight.js";

/** Writes a matrix with a row per output channel back in the weight's own shape. */
export function writeRowsInShape(
  writer: PatchWriter,
  stored: StoredWeight,
  matrix: ValueName,
  name: ValueName,
): ValueName {
  const { weight, shape, channelAxis } = stored;
  if (channelAxis === 0) return writeReshape(writer, matrix, shape, name);
  const others = shape.filter((_, axis) => axis !== channelAxis);
  const channelsFirst = writeReshape(writer, matrix, [shape[channelAxis], ...others], `${weight}_rows`);
  const perm = shape.map((_, axis) => (axis === channelAxis ? 0 : axis < channelAxis ? axis + 1 : axis));
  return writer.node("Transpose", [channelsFirst], name, { perm });
}

export function writeReshape(
  writer: PatchWriter,
  value: ValueName,
  shape: readonly number[],
  name: ValueName,
): ValueName {
  return writer.node("Reshape", [value, shapeConstant(writer, shape)], name);
}

/** Layers of the same shape share the constant. */
export function shapeConstant(writer: PatchWriter, shape: readonly number[]): ValueName {
  return writer.sharedConstant(`shape_${shape.join("x")}`, () => int64Tensor([shape.length], shape));
}
