import type { Tensor } from "./tensor.js";

/** Where tensors stay from when they are made until they are written: of a large model they fill the memory. */
export interface TensorStore {
  /** @returns a tensor with the same elements, which are asked for when somebody needs them */
  keep(tensor: Tensor): Tensor;
}

export const inMemory: TensorStore = { keep: (tensor) => tensor };
