import type { CheckpointStore } from "../src/index.js";

/** A checkpoint in memory. */
export interface MemoryStore extends CheckpointStore {
  /** In the order in which they were written. */
  readonly pieces: Map<string, Uint8Array>;
}

/** @param onWrite called before a piece is written: may refuse it */
export function memoryStore(
  pieces: Iterable<readonly [name: string, bytes: Uint8Array]> = [],
  onWrite: (piece: string) => void = () => {},
): MemoryStore {
  const kept = new Map(pieces);
  return {
    name: "memory",
    nameOf: (piece) => `memory of ${piece}`,
    pieces: kept,
    list: async () => [...kept.keys()],
    async read(piece) {
      const bytes = kept.get(piece);
      if (bytes === undefined) throw new Error(`there is no ${piece}`);
      return bytes;
    },
    async write(piece, bytes) {
      onWrite(piece);
      kept.set(piece, bytes);
    },
    clear: async () => kept.clear(),
  };
}
