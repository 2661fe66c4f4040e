import type { Extent } from "./preprocess.js";

/** A decoded picture. */
export interface Picture extends Extent {
  readonly channels: 1 | 3;
  /** `[height, width, channels]`, 0 … 255; three channels are red, green, blue. */
  readonly pixels: Uint8Array;
}

/** The picture in grey or in color; the same picture where it is so already. */
export function withChannels(picture: Picture, channels: 1 | 3): Picture {
  if (picture.channels === channels) return picture;
  return channels === 1 ? toGrey(picture) : toColor(picture);
}

/**
 * A color picture from cyan, magenta, yellow and black, 255 for full ink, without a color profile: each ink takes its
 * share of what black leaves, as in PIL.
 *
 * @param inks `[height, width, 4]`
 */
export function pictureFromInks({ width, height }: Extent, inks: Uint8Array): Picture {
  const pixels = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    const left = 255 - inks[4 * i + 3];
    for (let ink = 0; ink < 3; ink++) pixels[3 * i + ink] = left - multiplyShares(inks[4 * i + ink], left);
  }
  return { width, height, channels: 3, pixels };
}

/** a · b / 255, rounded, for 0 … 255. */
function multiplyShares(a: number, b: number): number {
  const product = a * b + 128;
  return (product + (product >> 8)) >> 8;
}

/** Luma of ITU-R BT.601 in 16-bit fixed point, as PIL's mode "L". */
function toGrey({ width, height, pixels }: Picture): Picture {
  const grey = new Uint8Array(width * height);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = (pixels[3 * i] * 19595 + pixels[3 * i + 1] * 38470 + pixels[3 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return { width, height, channels: 1, pixels: grey };
}

function toColor({ width, height, pixels }: Picture): Picture {
  const color = new Uint8Array(3 * width * height);
  for (let i = 0; i < pixels.length; i++) color.fill(pixels[i], 3 * i, 3 * i + 3);
  return { width, height, channels: 3, pixels: color };
}
