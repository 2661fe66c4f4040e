import type { Feeds } from "../engine/engine.js";
import { RecoupError } from "../errors.js";
import type { ValueName } from "../graph/graph.js";
import { type Tensor, tensorFromBytes } from "../tensor/tensor.js";
import type { Picture } from "./picture.js";
import type { SampleSource } from "./sample-source.js";

/**
 * Samples that stand in arrays `[samples, …]`, one array for each input of the model; sample i is `array[i]` with a batch
 * dimension of 1.
 *
 * @throws RecoupError `data/mismatch` where an array is a single number or the arrays differ in length
 */
export function arraySource(arrays: ReadonlyMap<ValueName, Tensor>, description: string): SampleSource {
  const length = commonLength(arrays);
  const rowsOf = (index: number) => new Map([...arrays].map(([name, array]) => [name, rowOf(array, index)] as const));
  return {
    length,
    description,
    warnings: [],
    isInMemory: true,
    idOf: String,
    load: async (index) => rowsOf(index),
    contents: (index) => partsOf(rowsOf(index)),
  };
}

/** Samples that are all there, as a `.jsonl` file gives them. */
export function feedsSource(samples: readonly Feeds[], description: string): SampleSource {
  return {
    length: samples.length,
    description,
    warnings: [],
    isInMemory: true,
    idOf: String,
    load: async (index) => samples[index],
    contents: (index) => partsOf(samples[index]),
  };
}

/** Whether an array is a stack of pictures: uint8 `[N, H, W, 3]`, `[N, H, W, 1]` or `[N, H, W]`. */
export function isPictureArray({ type, shape }: Tensor): boolean {
  return type === "uint8" && (shape.length === 3 || (shape.length === 4 && (shape[3] === 1 || shape[3] === 3)));
}

/** Picture `index` of an array for which `isPictureArray` holds; a view. */
export function pictureOfArray(array: Tensor, index: number): Picture {
  const [, height, width] = array.shape;
  return { width, height, channels: array.shape[3] === 3 ? 3 : 1, pixels: rowOf(array, index).bytes() };
}

/** What makes pictures differ. */
export function* partsOfPicture({ width, height, channels, pixels }: Picture): Generator<string | Uint8Array> {
  yield JSON.stringify([width, height, channels]);
  yield pixels;
}

/** Names, types, shapes and bytes: what makes tensors differ. */
function* partsOf(tensors: ReadonlyMap<ValueName, Tensor>): Generator<string | Uint8Array> {
  for (const [name, tensor] of tensors) {
    yield JSON.stringify([name, tensor.type, tensor.shape]);
    yield tensor.bytes();
  }
}

function rowOf(array: Tensor, index: number): Tensor {
  const rowBytes = array.sizeBytes / array.shape[0];
  const bytes = array.bytes().subarray(index * rowBytes, (index + 1) * rowBytes);
  return tensorFromBytes(array.type, [1, ...array.shape.slice(1)], bytes);
}

function commonLength(arrays: ReadonlyMap<ValueName, Tensor>): number {
  let common: { readonly name: string; readonly length: number } | undefined;
  for (const [name, { shape }] of arrays) {
    if (shape.length === 0) throw new RecoupError("data/mismatch", "is a single number, no array", { field: name });
    const [length] = shape;
    common ??= { name, length };
    if (length !== common.length) {
      const message = `has ${length} samples, ${common.name} has ${common.length}`;
      throw new RecoupError("data/mismatch", message, { field: name });
    }
  }
  return common?.length ?? 0;
}
