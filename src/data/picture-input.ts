import { RecoupError } from "../errors.js";
import type { Dimension, Value } from "../graph/graph.js";
import { type FloatType, isFloatType } from "../tensor/element-type.js";
import { describeValue } from "./fit.js";
import type { Layout, Preprocess } from "./preprocess.js";

/** What a model takes pictures as. */
export interface PictureInput {
  readonly name: string;
  /** `uint8` takes pixels as they are. */
  readonly type: FloatType | "uint8";
  readonly layout: Layout;
  readonly channels: 1 | 3;
  /** In pixels; not given where the model takes any size. */
  readonly height?: number;
  readonly width?: number;
}

/** Whether the model's only input can be a picture. */
export function takesPictures(inputs: readonly Value[]): boolean {
  const [input] = inputs;
  if (inputs.length !== 1 || input.type.kind !== "tensor") return false;
  const { elementType, shape } = input.type;
  return (isFloatType(elementType) || elementType === "uint8") && (shape === undefined || shape.length === 4);
}

/**
 * @throws RecoupError `data/mismatch` where the model has no single input of `[batch, 3, height, width]` or
 * `[batch, height, width, 3]` (or 1 for 3), or the preprocess names the other layout
 */
export function pictureInput(inputs: readonly Value[], preprocess: Preprocess): PictureInput {
  const [input] = inputs;
  if (inputs.length !== 1) {
    const names = inputs.map(({ name }) => name).join(", ");
    const message = `pictures feed one input, the model has ${inputs.length} (${names}): give .npz or .jsonl`;
    throw new RecoupError("data/mismatch", message);
  }
  if (!takesPictures(inputs) || input.type.kind !== "tensor") throw refuse(input);
  const { elementType: type, shape } = input.type;
  if (!isFloatType(type) && type !== "uint8") throw refuse(input);
  const layout = preprocess.layout ?? deduceLayout(shape);
  const [channels, height, width] = (layout === "channels-first" ? [1, 2, 3] : [3, 1, 2]).map((axis) => shape?.[axis]);
  if (typeof channels === "number" && !isChannelCount(channels)) {
    throw refuse(input, preprocess.layout && `, read as ${preprocess.layout}`);
  }
  return {
    name: input.name,
    type,
    layout,
    channels: channels === 1 ? 1 : 3,
    height: typeof height === "number" ? height : undefined,
    width: typeof width === "number" ? width : undefined,
  };
}

function deduceLayout(shape: readonly Dimension[] | undefined): Layout {
  return !isChannelCount(shape?.[1]) && isChannelCount(shape?.[3]) ? "channels-last" : "channels-first";
}

function isChannelCount(size: Dimension | undefined): boolean {
  return size === 1 || size === 3;
}

function refuse(input: Value, remark = ""): RecoupError {
  const message = `takes ${describeValue(input)}${remark}, which is no picture in grey or in color`;
  return new RecoupError("data/mismatch", message, { field: input.name });
}
