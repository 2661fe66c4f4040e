import { RecoupError } from "../errors.js";
import { floatTensor, type Tensor, uint8Tensor } from "../tensor/tensor.js";
import { type Geometry, planGeometry } from "./geometry.js";
import { type Picture, withChannels } from "./picture.js";
import type { PictureInput } from "./picture-input.js";
import type { Extent, Preprocess } from "./preprocess.js";
import { resamplePicture } from "./resample.js";

/**
 * A picture as a model takes it: `[1, channels, height, width]` or `[1, height, width, channels]`.
 *
 * @throws RecoupError `data/mismatch` where the result is not of the size that the model takes, or mean and std are for
 * another number of channels
 */
export function pictureTensor(picture: Picture, preprocess: Preprocess, input: PictureInput): Tensor {
  const geometry = planGeometry(picture, preprocess);
  checkSize(picture, geometry.canvas, preprocess, input);
  const resized = resamplePicture(withChannels(picture, input.channels), geometry.resized, preprocess.filter);
  const { width, height } = geometry.canvas;
  const shape =
    input.layout === "channels-first" ? [1, input.channels, height, width] : [1, height, width, input.channels];
  const count = input.channels * height * width;
  if (input.type === "uint8") {
    const identity = Array.from({ length: input.channels }, () => allPixels);
    return uint8Tensor(shape, paint(resized, geometry, preprocess, input, identity, new Uint8Array(count)));
  }
  const values = paint(resized, geometry, preprocess, input, pixelValues(preprocess, input), new Float32Array(count));
  return floatTensor(input.type, shape, values);
}

const allPixels = Float32Array.from({ length: 256 }, (_, pixel) => pixel);

/**
 * What the model gets for each of the 256 pixel values, `[channels][256]`. Rounded to float32 after every operation, as
 * NumPy does on float32 arrays; rescaling alone is computed in float64 there.
 */
export function pixelValues(preprocess: Preprocess, input: PictureInput): readonly Float32Array[] {
  const { rescaleFactor, normalize } = preprocess;
  return Array.from({ length: input.channels }, (_, channel) => {
    const scaled = allPixels.map((pixel) => pixel * rescaleFactor);
    if (!normalize) return scaled;
    const mean = Math.fround(ofChannel(normalize.mean, channel, "image_mean", input));
    const std = Math.fround(ofChannel(normalize.std, channel, "image_std", input));
    return scaled.map((value) => Math.fround(value - mean) / std);
  });
}

function ofChannel(numbers: readonly number[], channel: number, field: string, input: PictureInput): number {
  if (numbers.length === 1) return numbers[0];
  if (numbers.length === input.channels) return numbers[channel];
  const message = `has ${numbers.length} values, the model takes ${input.channels} channel(s)`;
  throw new RecoupError("preprocess/invalid", message, { field });
}

/** Fills `values` with the canvas: the picture where it lies, the fill value around it. */
function paint<Values extends Float32Array | Uint8Array>(
  { width, height, channels, pixels }: Picture,
  { canvas, left, top, fill }: Geometry,
  { channelOrder }: Preprocess,
  { layout }: PictureInput,
  tables: readonly Float32Array[],
  values: Values,
): Values {
  const pixelStride = layout === "channels-first" ? 1 : channels;
  const channelStride = layout === "channels-first" ? canvas.width * canvas.height : 1;
  const isCovered = left <= 0 && top <= 0 && left + width >= canvas.width && top + height >= canvas.height;
  for (const [channel, table] of tables.entries()) {
    const start = channel * channelStride;
    const source = channelOrder === "BGR" ? channels - 1 - channel : channel;
    if (!isCovered) {
      for (let i = 0; i < canvas.width * canvas.height; i++) values[start + i * pixelStride] = table[fill];
    }
    for (let y = Math.max(0, top); y < Math.min(canvas.height, top + height); y++) {
      for (let x = Math.max(0, left); x < Math.min(canvas.width, left + width); x++) {
        const pixel = pixels[((y - top) * width + x - left) * channels + source];
        values[start + (y * canvas.width + x) * pixelStride] = table[pixel];
      }
    }
  }
  return values;
}

function checkSize(picture: Extent, result: Extent, preprocess: Preprocess, input: PictureInput): void {
  if (result.width === (input.width ?? result.width) && result.height === (input.height ?? result.height)) return;
  const taken = `${input.width ?? "any"}×${input.height ?? "any"}`;
  const isKept = !preprocess.resize && !preprocess.frame;
  const message = isKept
    ? `is ${picture.width}×${picture.height} pixels, ${input.name} takes ${taken}: say with --preprocess how to resize`
    : `of ${picture.width}×${picture.height} pixels becomes ${result.width}×${result.height}, ${input.name} takes ${taken}`;
  throw new RecoupError("data/mismatch", message);
}
