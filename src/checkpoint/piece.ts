import { z } from "zod";
import { type ArchiveKind, packArchive, unpackArchive } from "../data/archive.js";
import { RecoupError } from "../errors.js";
import { decodeData, encodeData } from "./plain-data.js";

/** A part of what a run keeps. */
export interface Piece {
  /** Key of the run that wrote it. */
  readonly run: string;
  readonly name: string;
  /** Plain data, as `encodeData` takes it. */
  readonly content: unknown;
}

const format = "recoup checkpoint";
const formatVersion = 1;

const headerSchema = z.strictObject({
  format: z.literal(format),
  formatVersion: z.literal(formatVersion),
  run: z.string(),
  piece: z.string(),
  fingerprint: z.string(),
});

const kind: ArchiveKind<z.output<typeof headerSchema>> = {
  code: "checkpoint/malformed",
  what: "a piece of a checkpoint",
  header: headerSchema,
  parts: ["content.json", "arrays.bin"],
  // The run waits, and the files are gone when it is done.
  isCompressed: false,
};

/**
 * A piece as bytes: a zip archive of `header.json`, which says what it is and of which run, and of `content.json` and
 * `arrays.bin`, as `encodeData` makes them. The header holds the fingerprint of these two.
 */
export async function encodePiece({ run, name, content }: Piece): Promise<Uint8Array> {
  const { text, arrays } = encodeData(content);
  return packArchive(kind, { format, formatVersion, run, piece: name }, [new TextEncoder().encode(text), arrays]);
}

/**
 * Reads what `encodePiece` has written.
 *
 * @throws RecoupError `checkpoint/malformed`
 */
export async function decodePiece(bytes: Uint8Array): Promise<Piece> {
  const {
    header: { run, piece },
    parts: [text, arrays],
  } = await unpackArchive(kind, bytes);
  return { run, name: piece, content: decodeData({ text: new TextDecoder().decode(text), arrays }) };
}

/**
 * The content of a piece, as it was written: the schema checks it and changes nothing.
 *
 * @throws RecoupError `checkpoint/malformed`
 */
export function checkContent<Content>(schema: z.ZodType<Content>, content: unknown): Content {
  const result = schema.safeParse(content);
  if (result.success) return content as Content;
  const [{ path, message }] = result.error.issues;
  throw new RecoupError("checkpoint/malformed", message, { field: ["content.json", ...path.map(String)].join(".") });
}
