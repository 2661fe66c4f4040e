import { describe, expect, it } from "vitest";
import type { Dimension, Value } from "../graph/graph.js";
import type { ElementType } from "../tensor/element-type.js";
import { float32Values, integerValues } from "../tensor/tensor.js";
import type { Picture } from "./picture.js";
import { pictureInput, takesPictures } from "./picture-input.js";
import { pictureTensor } from "./picture-tensor.js";
import { assumedPreprocess, type Preprocess } from "./preprocess.js";

/** Red, then green over blue and white. */
const picture: Picture = {
  width: 2,
  height: 2,
  channels: 3,
  pixels: Uint8Array.of(255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255),
};

const plain: Preprocess = { filter: "nearest", channelOrder: "RGB", rescaleFactor: 1 };

function value(shape: readonly Dimension[] | undefined, elementType: ElementType = "float32"): Value {
  return { name: "x", type: { kind: "tensor", elementType, shape } };
}

function prepare(preprocess: Preprocess, shape: readonly Dimension[], elementType: ElementType = "float32") {
  return pictureTensor(picture, preprocess, pictureInput([value(shape, elementType)], preprocess));
}

describe("pictureTensor", () => {
  it("lays channels first or last, as the model's input does", () => {
    const first = prepare(plain, [1, 3, "h", "w"]);
    expect(first.shape).toEqual([1, 3, 2, 2]);
    expect([...float32Values(first)]).toEqual([255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255]);
    const last = prepare(plain, ["n", 2, 2, 3]);
    expect(last.shape).toEqual([1, 2, 2, 3]);
    expect([...float32Values(last)]).toEqual([...picture.pixels]);
  });

  it("swaps red and blue for BGR", () => {
    const tensor = prepare({ ...plain, channelOrder: "BGR" }, [1, 2, 2, 3]);
    expect([...float32Values(tensor)]).toEqual([0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255, 255]);
  });

  it("rescales and normalizes in float32, as NumPy does", () => {
    const normalize = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    const [white] = float32Values(prepare({ ...plain, rescaleFactor: 1 / 255, normalize }, [1, 3, 2, 2])).slice(3);
    // NumPy 2.4: (np.float32(1) - np.float32(0.485)) / np.float32(0.229)
    expect(white).toBe(Math.fround(2.2489083));
    expect(white).not.toBe(Math.fround(1 - 0.485) / 0.229);
  });

  it("gives grey to a model of one channel", () => {
    expect([...float32Values(prepare(plain, [1, 1, 2, 2]))]).toEqual([76, 150, 29, 255]);
  });

  it("gives uint8 as it is and float16 rounded", () => {
    const normalized: Preprocess = { ...assumedPreprocess, normalize: { mean: [0.5], std: [0.5] } };
    expect(integerValues(prepare(normalized, [1, 2, 2, 3], "uint8"))).toEqual([...picture.pixels]);
    const half = prepare(assumedPreprocess, [1, 2, 2, 3], "float16");
    expect(half).toMatchObject({ type: "float16", sizeBytes: 24 });
    expect([...float32Values(half)]).toEqual([...picture.pixels].map((pixel) => pixel / 255));
  });

  it("fills what the picture does not cover, as a pixel", () => {
    const frame = { kind: "pad", width: 3, height: 3, position: "top-left", value: 51 } as const;
    const tensor = prepare({ ...assumedPreprocess, frame }, [1, 1, 3, 3]);
    const fill = Math.fround(0.2);
    expect([...float32Values(tensor)]).toEqual(
      [76 / 255, 150 / 255, fill, 29 / 255, 1, fill, fill, fill, fill].map(Math.fround),
    );
  });

  it("cuts out the center, and surrounds what is too small with black", () => {
    const cut = prepare({ ...plain, frame: { kind: "center-crop", width: 1, height: 2 } }, [1, 1, 2, 1]);
    expect([...float32Values(cut)]).toEqual([76, 29]);
    const filled = prepare({ ...plain, frame: { kind: "center-crop", width: 2, height: 3 } }, [1, 1, 3, 2]);
    expect([...float32Values(filled)]).toEqual([0, 0, 76, 150, 29, 255]);
  });

  it("says which size does not fit", () => {
    expect(() => prepare(plain, [1, 3, 4, "w"])).toThrow(
      expect.objectContaining({ code: "data/mismatch", message: expect.stringMatching(/2×2.*any×4.*--preprocess/) }),
    );
    expect(() => prepare({ ...plain, resize: { to: "exact", width: 3, height: 3 } }, [1, 3, 4, 4])).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/2×2.*3×3.*4×4/) }),
    );
  });

  it("refuses a mean for other channels", () => {
    const normalize = { mean: [1, 2, 3], std: [1, 1, 1] };
    expect(() => prepare({ ...plain, normalize }, [1, 1, 2, 2])).toThrow(
      expect.objectContaining({ code: "preprocess/invalid", place: { field: "image_mean" } }),
    );
  });
});

describe("pictureInput", () => {
  it.each<[readonly Dimension[] | undefined, string, number]>([
    [[1, 3, 224, 224], "channels-first", 3],
    [["n", 224, 224, 3], "channels-last", 3],
    [[1, 1, 28, 28], "channels-first", 1],
    [[1, 28, 28, 1], "channels-last", 1],
    [[null, null, null, null], "channels-first", 3],
    [undefined, "channels-first", 3],
  ])("deduces the layout of %j", (shape, layout, channels) => {
    expect(pictureInput([value(shape)], plain)).toMatchObject({ layout, channels });
  });

  it("follows the preprocess, unless the model contradicts it", () => {
    const last: Preprocess = { ...plain, layout: "channels-last" };
    expect(pictureInput([value([1, "h", "w", "c"])], last).layout).toBe("channels-last");
    expect(() => pictureInput([value([1, 3, 224, 224])], last)).toThrow(
      expect.objectContaining({ code: "data/mismatch", message: expect.stringContaining("read as channels-last") }),
    );
  });

  it.each<[string, readonly Value[]]>([
    ["integers", [value([1, 3, 8, 8], "int64")]],
    ["two axes", [value([1, 10])]],
    ["four channels", [value([1, 4, 8, 8])]],
    ["two inputs", [value([1, 3, 8, 8]), value([1, 3, 8, 8])]],
    ["no input", []],
  ])("refuses a model that takes %s", (_, inputs) => {
    expect(() => pictureInput(inputs, plain)).toThrow(expect.objectContaining({ code: "data/mismatch" }));
  });

  it("tells pictures from other tensors", () => {
    expect(takesPictures([value([1, 3, 8, 8])])).toBe(true);
    expect(takesPictures([value([1, 3, 8])])).toBe(false);
    expect(takesPictures([])).toBe(false);
  });
});
