import { readFile } from "node:fs/promises";
import type Sharp from "sharp";
import { mostPixels } from "../data/geometry.js";
import { type Picture, pictureFromInks, withChannels } from "../data/picture.js";
import { RecoupError } from "../errors.js";

/** Names of picture files; what is inside decides how they are read. */
export const pictureName = /\.(jpe?g|png|webp)$/i;

/**
 * Decodes a JPEG, PNG or WebP file as PIL does for a model: the stored pixels, neither turned as a camera's remark says
 * nor converted by a color profile; alpha is dropped, 16 bits become 8.
 *
 * @throws RecoupError `data/unreadable` for what is no such file, is damaged or is larger than `mostPixels`
 */
export async function decodePictureFile(path: string): Promise<Picture> {
  const bytes = await readPictureFile(path);
  return decodePicture(bytes).catch((cause) => {
    throw unreadable(path, cause);
  });
}

/** @throws RecoupError `data/unreadable` */
export async function readPictureFile(path: string): Promise<Uint8Array> {
  return readFile(path).catch((cause) => {
    throw unreadable(path, cause);
  });
}

function unreadable(path: string, cause: unknown): RecoupError {
  if (cause instanceof RecoupError) return new RecoupError(cause.code, cause.message, { file: path }, { cause });
  const message = `cannot be read as a picture (${reasonOf(cause)})`;
  return new RecoupError("data/unreadable", message, { file: path }, { cause });
}

async function decodePicture(bytes: Uint8Array): Promise<Picture> {
  // The decoder knows dozens of formats, some of them whole programs: only these three are handed to it.
  if (!isPictureFormat(bytes)) throw new RecoupError("data/unreadable", "is not a JPEG, PNG or WebP picture");
  const sharp = await loadSharp();
  const image = sharp(bytes, { failOn: "error", limitInputPixels: mostPixels, ignoreIcc: true });
  const isInks = (await image.metadata()).space === "cmyk";
  const colors = isInks
    ? image.pipelineColourspace("cmyk").toColourspace("cmyk")
    : image.removeAlpha().toColourspace("srgb");
  const { data, info } = await colors.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  if (isInks && channels === 4) return pictureFromInks(info, data);
  if (channels !== 1 && channels !== 3) throw new RecoupError("data/unreadable", `has ${channels} channels`);
  return withChannels({ width, height, channels, pixels: data }, 3);
}

let loading: Promise<typeof Sharp> | undefined;

/** Loaded with the first picture, so that other data need no native decoder. */
function loadSharp(): Promise<typeof Sharp> {
  loading ??= import("sharp").then(({ default: sharp }) => {
    // One thread a picture: several are decoded side by side, and the model wants the other cores.
    sharp.concurrency(1);
    return sharp;
  });
  return loading;
}

function isPictureFormat(bytes: Uint8Array): boolean {
  const starts = (offset: number, text: string) =>
    [...text].every((character, i) => bytes[offset + i] === character.charCodeAt(0));
  return starts(0, "\xff\xd8\xff") || starts(0, "\x89PNG\r\n\x1a\n") || (starts(0, "RIFF") && starts(8, "WEBP"));
}

function reasonOf(cause: unknown): string {
  const text = cause instanceof Error ? cause.message : String(cause);
  return text.trim().split("\n")[0];
}
