import { z } from "zod";
import { RecoupError } from "../errors.js";
import type { Filter, Frame, Layout, Preprocess, Resize } from "./preprocess.js";

export interface PreprocessConfig {
  readonly preprocess: Preprocess;
  /** What the file asks for and Recoup does not do. */
  readonly warnings: readonly string[];
}

/** In pixels. No vision model takes more; the limit keeps a mistyped size from filling the memory. */
const longestEdge = 8192;

/** PIL's numbers. */
const filters: readonly Filter[] = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"];

/** Keys that change pixels in ways that are not implemented. */
const unsupportedKeys = [
  "rescale_offset",
  "do_thumbnail",
  "do_align_long_axis",
  "do_crop_margin",
  "ensure_multiple_of",
  "size_divisor",
  "pad_size",
];

/** These resize to a square before they crop; all others keep the aspect ratio for a size that is a bare number. */
const squareBeforeCrop = /^(DeiT|Beit)/;

/** ConvNeXt: from this size on, pictures are warped instead of cropped. */
const convNextWarpFrom = 384;

const edge = z.int().min(1).max(longestEdge);
const sizeMessage = `is neither a number of pixels (1 to ${longestEdge}) nor an object of shortest_edge, longest_edge, height, width`;
const factor = z.number().positive();
const numbers = z.union(
  [z.number(), z.array(z.number()).min(1).max(3)],
  "is neither a number nor a list of 1 to 3 numbers",
);
const sizes = z.looseObject({
  height: edge.nullish(),
  width: edge.nullish(),
  shortest_edge: edge.nullish(),
  longest_edge: edge.nullish(),
});

/** The keys of Hugging Face's `preprocessor_config.json` that say what happens to pixels, and a few for letterboxes. */
const schema = z.looseObject({
  do_resize: z.boolean().nullish(),
  size: z.union([edge, sizes], sizeMessage).nullish(),
  resample: z.int().min(0).max(5).nullish(),
  keep_aspect_ratio: z.boolean().nullish(),
  do_center_crop: z.boolean().nullish(),
  crop_size: z.union([edge, sizes], sizeMessage).nullish(),
  crop_pct: factor.max(1).nullish(),
  do_pad: z.boolean().nullish(),
  pad_position: z.enum(["center", "top_left_image"]).nullish(),
  pad_value: z.int().min(0).max(255).nullish(),
  do_rescale: z.boolean().nullish(),
  rescale_factor: factor.nullish(),
  do_normalize: z.boolean().nullish(),
  image_mean: numbers.nullish(),
  image_std: numbers.nullish(),
  do_convert_rgb: z.boolean().nullish(),
  channel_order: z.enum(["RGB", "BGR", "rgb", "bgr"]).nullish(),
  do_flip_channel_order: z.boolean().nullish(),
  data_format: z.enum(["channels_first", "channels_last", "NCHW", "NHWC"]).nullish(),
  input_layout: z.enum(["channels_first", "channels_last", "NCHW", "NHWC"]).nullish(),
  image_processor_type: z.string().nullish(),
  feature_extractor_type: z.string().nullish(),
});

type Config = z.infer<typeof schema>;
type Sizes = z.infer<typeof sizes>;

/**
 * Reads a Hugging Face `preprocessor_config.json`. Keys that are not about pixels are left alone.
 *
 * @throws RecoupError `preprocess/invalid`, place: the key
 */
export function readPreprocessConfig(text: string): PreprocessConfig {
  const parsed = schema.safeParse(parseJson(text));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalid(issue.path.join("."), issue.message);
  }
  const config = parsed.data;
  const crop = readCrop(config);
  const resize = readResize(config);
  const preprocess: Preprocess = {
    resize: crop?.resize ?? resize,
    filter: filters[config.resample ?? 2],
    frame: readFrame(config, crop?.frame),
    channelOrder: readChannelOrder(config),
    rescaleFactor: config.do_rescale === false ? 1 : (config.rescale_factor ?? 1 / 255),
    normalize: readNormalize(config),
    layout: readLayout(config.input_layout ?? config.data_format),
  };
  const warnings = unsupportedKeys
    .filter((key) => config[key])
    .map((key) => `${key} of the preprocess configuration is not supported and was left out`);
  return { preprocess, warnings };
}

function readResize(config: Config): Resize | undefined {
  const { size } = config;
  if (config.do_resize === false) return undefined;
  if (size === undefined || size === null) {
    if (config.do_resize) throw invalid("size", "is missing, and do_resize is true");
    return undefined;
  }
  if (typeof size === "number") {
    const processor = config.image_processor_type ?? config.feature_extractor_type ?? "";
    const keepsAspect = isCropped(config) && !squareBeforeCrop.test(processor);
    return keepsAspect ? { to: "shortest-edge", edge: size } : resizeTo(size, size, config);
  }
  if (size.shortest_edge) {
    return { to: "shortest-edge", edge: size.shortest_edge, longest: size.longest_edge ?? undefined };
  }
  if (size.longest_edge) return { to: "longest-edge", edge: size.longest_edge };
  const { width, height } = readExtent("size", size);
  return resizeTo(width, height, config);
}

function resizeTo(width: number, height: number, config: Config): Resize {
  if (!config.keep_aspect_ratio) return { to: "exact", width, height };
  // As the families round that train so: YOLOv5 centers and rounds, YOLOX fills from the top left and cuts off.
  return { to: "fit", width, height, rounding: config.pad_position === "top_left_image" ? "down" : "nearest" };
}

interface Crop {
  /** In place of the size that was asked for. */
  readonly resize?: Resize;
  readonly frame?: Frame;
}

function isCropped(config: Config): boolean {
  return (config.do_center_crop ?? Boolean(config.crop_size)) || cropShare(config) !== undefined;
}

/** `crop_pct` enlarges what is resized to, so it means nothing where nothing is resized. */
function cropShare(config: Config): number | undefined {
  return config.do_resize === false ? undefined : (config.crop_pct ?? undefined);
}

function readCrop(config: Config): Crop | undefined {
  if (!isCropped(config)) return undefined;
  const given = config.do_center_crop === false ? undefined : config.crop_size;
  const crop = given ? ({ kind: "center-crop", ...readExtent("crop_size", given) } as const) : undefined;
  const share = cropShare(config);
  if (!share) {
    if (!crop) throw invalid("crop_size", "is missing, and do_center_crop is true");
    return { frame: crop };
  }
  const target = squareEdge(config);
  // ConvNeXt names no crop: what `size` says is what comes out. PoolFormer names one.
  if (!crop && target >= convNextWarpFrom) return { resize: { to: "exact", width: target, height: target } };
  const resize: Resize = { to: "shortest-edge", edge: Math.trunc(target / share) };
  return { resize, frame: crop ?? { kind: "center-crop", width: target, height: target } };
}

/** The one number that `crop_pct` is a share of. */
function squareEdge({ size }: Config): number {
  if (typeof size === "number") return size;
  const square = size?.shortest_edge ?? (size?.width === size?.height ? size?.height : undefined);
  if (!square) throw invalid("size", "must be one edge where crop_pct is given");
  return square;
}

function readFrame(config: Config, crop: Frame | undefined): Frame | undefined {
  // Without a size to fill, do_pad makes the pictures of a batch equally large: nothing to do for a batch of one.
  if (!config.do_pad || !config.keep_aspect_ratio) return crop;
  if (crop) throw invalid("do_pad", "cannot be combined with a crop");
  return {
    kind: "pad",
    ...readExtent("size", config.size ?? {}),
    position: config.pad_position === "top_left_image" ? "top-left" : "center",
    value: config.pad_value ?? 0,
  };
}

function readExtent(field: string, size: number | Sizes) {
  if (typeof size === "number") return { width: size, height: size };
  const height = size.height ?? size.shortest_edge;
  const width = size.width ?? size.shortest_edge;
  if (!height || !width) throw invalid(field, "has no height and width");
  return { width, height };
}

function readChannelOrder(config: Config): "RGB" | "BGR" {
  const order = config.channel_order?.toUpperCase() ?? (config.do_flip_channel_order ? "BGR" : "RGB");
  return order === "BGR" ? "BGR" : "RGB";
}

function readNormalize(config: Config): Preprocess["normalize"] {
  const { image_mean: mean, image_std: std } = config;
  const isGiven = (value: typeof mean) => value !== undefined && value !== null;
  if (!(config.do_normalize ?? (isGiven(mean) || isGiven(std)))) return undefined;
  // What is left out differs from processor to processor: guessing would shift every activation.
  if (!isGiven(mean)) throw invalid("image_mean", "is missing, and pixels are to be normalized");
  if (!isGiven(std)) throw invalid("image_std", "is missing, and pixels are to be normalized");
  const result = { mean: [mean].flat(), std: [std].flat() };
  if (result.std.includes(0)) throw invalid("image_std", "is 0");
  return result;
}

function readLayout(text: string | null | undefined): Layout | undefined {
  if (text === undefined || text === null) return undefined;
  return text === "NHWC" || text === "channels_last" ? "channels-last" : "channels-first";
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RecoupError("preprocess/invalid", "is not JSON", {}, { cause });
  }
}

function invalid(field: string, message: string): RecoupError {
  return new RecoupError("preprocess/invalid", message, { field });
}
