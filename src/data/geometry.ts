import { RecoupError } from "../errors.js";
import type { Extent, Frame, Preprocess, Resize } from "./preprocess.js";

/** Where the pixels of a picture come to stand. */
export interface Geometry {
  readonly resized: Extent;
  /** Size of the result. */
  readonly canvas: Extent;
  /** Where the resized picture's corner stands on the canvas, in pixels; negative where it is cut off. */
  readonly left: number;
  readonly top: number;
  /** Pixel value of what the picture does not cover. */
  readonly fill: number;
}

/** Most pixels that a picture may have, as it comes or as it is resized: 200 MB a picture. Phone cameras stay below. */
export const mostPixels = 2 ** 26;

/**
 * Sizes and offsets as Hugging Face's image processors compute them.
 *
 * @throws RecoupError `data/mismatch` where a picture would become too large to hold
 * @see https://github.com/huggingface/transformers/blob/main/src/transformers/image_transforms.py
 */
export function planGeometry(picture: Extent, preprocess: Pick<Preprocess, "resize" | "frame">): Geometry {
  const resized = preprocess.resize ? resizedExtent(picture, preprocess.resize) : picture;
  if (resized.width * resized.height > mostPixels) {
    const message = `would become ${resized.width}×${resized.height} pixels`;
    throw new RecoupError("data/mismatch", message);
  }
  return { resized, ...placeOn(resized, preprocess.frame) };
}

function resizedExtent(picture: Extent, resize: Resize): Extent {
  switch (resize.to) {
    case "exact":
      return { width: resize.width, height: resize.height };
    case "shortest-edge":
      return resizeShortestEdge(picture, resize.edge, resize.longest);
    case "longest-edge": {
      const scale = resize.edge / Math.max(picture.width, picture.height);
      return scaled(picture, scale, (size) => Math.trunc(size + 0.5));
    }
    case "fit": {
      const scale = Math.min(resize.width / picture.width, resize.height / picture.height);
      return scaled(picture, scale, resize.rounding === "down" ? Math.trunc : Math.round);
    }
  }
}

function resizeShortestEdge({ width, height }: Extent, edge: number, longest = Number.POSITIVE_INFINITY): Extent {
  let short = edge;
  // Multiplied first, as there: the order decides where the quotient is just below an integer.
  let long = Math.trunc((edge * Math.max(width, height)) / Math.min(width, height));
  if (long > longest) {
    short = Math.max(1, Math.trunc((longest * short) / long));
    long = longest;
  }
  return width <= height ? { width: short, height: long } : { width: long, height: short };
}

function scaled({ width, height }: Extent, scale: number, round: (size: number) => number): Extent {
  return { width: Math.max(1, round(width * scale)), height: Math.max(1, round(height * scale)) };
}

function placeOn(picture: Extent, frame: Frame | undefined): Omit<Geometry, "resized"> {
  if (!frame) return { canvas: picture, left: 0, top: 0, fill: 0 };
  const canvas = { width: frame.width, height: frame.height };
  if (frame.kind === "center-crop") {
    // Rounded towards the top left when cutting, towards the bottom right when filling up.
    const left = -Math.floor((picture.width - frame.width) / 2);
    const top = -Math.floor((picture.height - frame.height) / 2);
    return { canvas, left: left + 0, top: top + 0, fill: 0 };
  }
  if (frame.position === "top-left") return { canvas, left: 0, top: 0, fill: frame.value };
  const left = Math.floor((frame.width - picture.width) / 2);
  const top = Math.floor((frame.height - picture.height) / 2);
  return { canvas, left, top, fill: frame.value };
}
