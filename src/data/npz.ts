import { RecoupError, withPlace } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";
import { readNpy } from "./npy.js";
import { unzip } from "./zip.js";

/** A model has tens of inputs at most; an archive with more arrays was not made for it. */
const mostArrays = 1024;

/**
 * Reads the arrays of a `.npz` archive by name, without the ending `.npy`. Names are compared, never used as paths.
 *
 * @throws RecoupError `data/unreadable`
 */
export function readNpz(bytes: Uint8Array): ReadonlyMap<string, Tensor> {
  const entries = unzip(bytes, {
    code: "data/unreadable",
    what: "a readable .npz archive",
    isWanted: (name) => name.endsWith(".npy"),
    mostEntries: mostArrays,
    entries: "arrays",
  });
  const arrays = [...entries].map(([entry, content]) => {
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
