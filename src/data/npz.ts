import { type UnzipFileInfo, unzipSync } from "fflate";
import { RecoupError, withPlace } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import { readNpy } from "./npy.js";

/** A model has tens of inputs at most; an archive with more arrays was not made for it. */
const mostArrays = 1024;

/** All arrays of an archive together, unpacked, in bytes: they are held in memory. */
const largestTotal = 2 ** 32;

/** Deflate packs at most 258 bytes into 2 bits, so no honest entry promises more than this (zlib, Technical Details). */
const largestDeflateRatio = 1032;

/** Slack for the few bytes that a deflate stream takes besides what it packs. */
const deflateOverhead = 64;

/**
 * Reads the arrays of a `.npz` archive by name, without the ending `.npy`. Names are compared, never used as paths.
 *
 * @throws RecoupError `data/unreadable`
 */
export function readNpz(bytes: Uint8Array): ReadonlyMap<string, Tensor> {
  const limit = createLimit();
  let entries: Readonly<Record<string, Uint8Array>>;
  try {
    entries = unzipSync(bytes, { filter: (entry) => entry.name.endsWith(".npy") && limit(entry) });
  } catch (cause) {
    if (cause instanceof RecoupError) throw cause;
    throw new RecoupError("data/unreadable", `is not a readable .npz archive (${String(cause)})`, {}, { cause });
  }
  const arrays = Object.entries(entries).map(([entry, content]) => {
    const name = entry.slice(0, -".npy".length);
    try {
      return [name, readNpy(content)] as const;
    } catch (error) {
      throw withPlace(error, { field: name });
    }
  });
  if (arrays.length === 0) throw new RecoupError("data/unreadable", "holds no arrays");
  return new Map(arrays);
}

/** Checks what an archive promises before anything is allocated for it. */
function createLimit(): (entry: UnzipFileInfo) => true {
  let count = 0;
  let total = 0;
  return ({ name, size, originalSize, compression }) => {
    count += 1;
    total += originalSize;
    const possible = compression === 0 ? size : size * largestDeflateRatio + deflateOverhead;
    if (originalSize > possible) {
      throw new RecoupError("data/unreadable", `cannot hold ${originalSize} bytes in ${size}`, { field: name });
    }
    if (count > mostArrays) throw new RecoupError("data/unreadable", `holds more than ${mostArrays} arrays`);
    if (total > largestTotal) throw new RecoupError("data/unreadable", `unpacks to more than ${largestTotal} bytes`);
    return true;
  };
}
