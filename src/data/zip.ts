import { type UnzipFileInfo, unzipSync, zipSync } from "fflate";
import { type ErrorCode, RecoupError } from "../errors.js";

/** What may be unpacked of an archive. */
export interface UnzipOptions {
  /** Of the errors. */
  readonly code: ErrorCode;
  /** What it should be, for errors: `a .npz archive`. */
  readonly what: string;
  /** Entries of other names are passed over. */
  isWanted(name: string): boolean;
  readonly mostEntries: number;
  /** What an entry is, for errors, in the plural. */
  readonly entries: string;
}

/** All entries together, unpacked, in bytes: they are held in memory. */
const largestTotal = 2 ** 32;

/** Deflate packs at most 258 bytes into 2 bits, so no honest entry promises more than this (zlib, Technical Details). */
const largestDeflateRatio = 1032;

/** Slack for the few bytes that a deflate stream takes besides what it packs. */
const deflateOverhead = 64;

/**
 * Unpacks entries of an archive in memory. Names are compared, never used as paths.
 *
 * @throws RecoupError with the given code for anything that is no archive or promises too much
 */
export function unzip(bytes: Uint8Array, options: UnzipOptions): ReadonlyMap<string, Uint8Array> {
  const limit = createLimit(options);
  try {
    return new Map(
      Object.entries(unzipSync(bytes, { filter: (entry) => options.isWanted(entry.name) && limit(entry) })),
    );
  } catch (cause) {
    if (cause instanceof RecoupError) throw cause;
    throw new RecoupError(options.code, `is not ${options.what}, or is damaged`, {}, { cause });
  }
}

/**
 * Packs entries into an archive. The same entries give the same bytes, whatever the time is.
 *
 * @param isCompressed smaller, at a few tens of megabytes a second
 */
export function zip(entries: ReadonlyMap<string, Uint8Array>, isCompressed: boolean): Uint8Array {
  return zipSync(Object.fromEntries(entries), { level: isCompressed ? 6 : 0, mtime: new Date(1980, 0, 1) });
}

/** Checks what an archive promises before anything is allocated for it. */
function createLimit({ code, mostEntries, entries }: UnzipOptions): (entry: UnzipFileInfo) => true {
  let count = 0;
  let total = 0;
  return ({ name, size, originalSize, compression }) => {
    count += 1;
    total += originalSize;
    const possible = compression === 0 ? size : size * largestDeflateRatio + deflateOverhead;
    if (originalSize > possible) {
      throw new RecoupError(code, `cannot hold ${originalSize} bytes in ${size}`, { field: name });
    }
    if (count > mostEntries) throw new RecoupError(code, `holds more than ${mostEntries} ${entries}`);
    if (total > largestTotal) throw new RecoupError(code, `unpacks to more than ${largestTotal} bytes`);
    return true;
  };
}
