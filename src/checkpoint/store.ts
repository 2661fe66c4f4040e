/**
 * Where a run keeps what it has finished, piece by piece. A piece is there whole or not at all, whatever ends the process.
 * Names are made of lower-case letters, digits and hyphens.
 */
export interface CheckpointStore {
  /** What errors and warnings call it. */
  readonly name: string;
  /** What errors call a piece. */
  nameOf(piece: string): string;
  /**
   * Names of the pieces that are there.
   *
   * @throws RecoupError where that cannot be said
   */
  list(): Promise<readonly string[]>;
  /** @throws RecoupError where the piece is gone or cannot be read */
  read(piece: string): Promise<Uint8Array>;
  /**
   * Puts a piece in the place of one of the same name.
   *
   * @throws RecoupError where it cannot be written
   */
  write(piece: string, bytes: Uint8Array): Promise<void>;
  /**
   * Removes all pieces.
   *
   * @throws RecoupError where one cannot be removed
   */
  clear(): Promise<void>;
}
