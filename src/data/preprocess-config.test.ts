import { describe, expect, it } from "vitest";
import { RecoupError } from "../errors.js";
import { describePreprocess } from "./preprocess.js";
import { readPreprocessConfig } from "./preprocess-config.js";

function read(config: Readonly<Record<string, unknown>>) {
  return readPreprocessConfig(JSON.stringify(config)).preprocess;
}

function refusal(config: unknown): RecoupError {
  try {
    readPreprocessConfig(JSON.stringify(config));
  } catch (error) {
    if (error instanceof RecoupError) return error;
    throw error;
  }
  throw new Error("was not refused");
}

describe("readPreprocessConfig", () => {
  it("reads a CLIP configuration", () => {
    const preprocess = read({
      image_processor_type: "CLIPImageProcessor",
      do_resize: true,
      size: { shortest_edge: 256 },
      resample: 3,
      do_center_crop: true,
      crop_size: { height: 224, width: 224 },
      do_rescale: true,
      rescale_factor: 0.5,
      do_normalize: true,
      image_mean: [0.1, 0.2, 0.3],
      image_std: [1, 2, 3],
      do_convert_rgb: null,
      some_other_key: { nested: true },
    });
    expect(preprocess).toEqual({
      resize: { to: "shortest-edge", edge: 256, longest: undefined },
      filter: "bicubic",
      frame: { kind: "center-crop", width: 224, height: 224 },
      channelOrder: "RGB",
      rescaleFactor: 0.5,
      normalize: { mean: [0.1, 0.2, 0.3], std: [1, 2, 3] },
      layout: undefined,
    });
    expect(describePreprocess(preprocess)).toBe(
      "shortest edge resized to 256, bicubic; center crop 224×224; times 0.5; mean 0.1 0.2 0.3, std 1 2 3",
    );
  });

  it("fills in what an empty configuration leaves out", () => {
    expect(read({})).toEqual({
      resize: undefined,
      filter: "bilinear",
      frame: undefined,
      channelOrder: "RGB",
      rescaleFactor: 1 / 255,
      normalize: undefined,
      layout: undefined,
    });
  });

  it("reads letterboxes", () => {
    const letterbox = { keep_aspect_ratio: true, size: { height: 640, width: 320 }, do_pad: true, pad_value: 114 };
    expect(read({ ...letterbox, pad_position: "center" })).toMatchObject({
      resize: { to: "fit", width: 320, height: 640, rounding: "nearest" },
      frame: { kind: "pad", width: 320, height: 640, position: "center", value: 114 },
    });
    expect(
      read({ ...letterbox, pad_position: "top_left_image", channel_order: "BGR", do_rescale: false }),
    ).toMatchObject({
      resize: { rounding: "down" },
      frame: { position: "top-left" },
      channelOrder: "BGR",
      rescaleFactor: 1,
    });
  });

  it.each([
    ["a number is a square", { size: 224 }, { to: "exact", width: 224, height: 224 }],
    ["a number before a crop is the shorter edge", { size: 224, crop_size: 224 }, { to: "shortest-edge", edge: 224 }],
    [
      "a number before DeiT's crop is a square",
      { size: 256, crop_size: 224, feature_extractor_type: "DeiTFeatureExtractor" },
      { to: "exact", width: 256, height: 256 },
    ],
    ["height and width", { size: { height: 2, width: 3 } }, { to: "exact", width: 3, height: 2 }],
    ["a longest edge", { size: { longest_edge: 9 } }, { to: "longest-edge", edge: 9 }],
    ["both edges", { size: { shortest_edge: 8, longest_edge: 9 } }, { to: "shortest-edge", edge: 8, longest: 9 }],
    ["ConvNeXt's share", { size: { shortest_edge: 224 }, crop_pct: 0.875 }, { to: "shortest-edge", edge: 256 }],
    ["ConvNeXt's warp", { size: { shortest_edge: 384 }, crop_pct: 0.875 }, { to: "exact", width: 384, height: 384 }],
    ["PoolFormer's share", { size: 224, crop_pct: 0.9, crop_size: 224 }, { to: "shortest-edge", edge: 248 }],
  ])("size: %s", (_, config, resize) => {
    expect(read(config).resize).toMatchObject(resize);
  });

  it("does not resize where it is told not to", () => {
    expect(read({ do_resize: false, size: 224, crop_pct: 0.9 })).toMatchObject({ resize: undefined, frame: undefined });
  });

  it("takes one mean for all channels, and reads both names of the layout", () => {
    expect(read({ image_mean: 0.5, image_std: 0.25 }).normalize).toEqual({ mean: [0.5], std: [0.25] });
    expect(read({ input_layout: "NHWC" }).layout).toBe("channels-last");
    expect(read({ data_format: "channels_first" }).layout).toBe("channels-first");
    expect(read({ do_flip_channel_order: true }).channelOrder).toBe("BGR");
  });

  it.each([
    ["resample", { resample: 9 }],
    ["size", { size: "224" }],
    ["size", { size: { edge: 224 } }],
    ["size", { size: 1e9 }],
    ["size", { do_resize: true }],
    ["crop_size", { do_center_crop: true }],
    ["do_resize", { do_resize: "yes" }],
    ["image_mean", { image_mean: ["a"] }],
    ["image_mean", { do_normalize: true }],
    ["image_std", { image_mean: 0, image_std: [1, 0, 1] }],
    ["rescale_factor", { rescale_factor: 0 }],
    ["channel_order", { channel_order: "GRB" }],
    ["pad_value", { pad_value: 300 }],
    ["do_pad", { size: 9, keep_aspect_ratio: true, do_pad: true, crop_size: 9 }],
  ])("refuses a wrong %s and names it", (field, config) => {
    expect(refusal(config)).toMatchObject({ code: "preprocess/invalid", place: { field } });
  });

  it("refuses what is no JSON object", () => {
    expect(refusal([]).code).toBe("preprocess/invalid");
    expect(() => readPreprocessConfig("{")).toThrow(expect.objectContaining({ code: "preprocess/invalid" }));
  });

  it("warns of what it does not do", () => {
    const { warnings } = readPreprocessConfig('{"rescale_offset": true, "do_thumbnail": false}');
    expect(warnings).toEqual(["rescale_offset of the preprocess configuration is not supported and was left out"]);
  });
});
