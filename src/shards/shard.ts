import { RecoupError } from "../errors.js";

/** A part of the calibration samples. */
export interface Shard {
  /** From 1 to `count`. */
  readonly index: number;
  readonly count: number;
}

/**
 * The samples of a shard: consecutive ones. Samples run in batches, and what is seen of a batch may depend on its samples,
 * so no batch is cut: shards differ by one batch at most.
 *
 * @param indices the samples of all shards, in order
 * @throws RecoupError `usage/argument` for a shard that there is not, and for more shards than batches
 */
export function samplesOfShard(indices: readonly number[], batchSize: number, shard: Shard): readonly number[] {
  checkShard(shard);
  const { index, count } = shard;
  const batches = Math.ceil(indices.length / batchSize);
  if (count > batches) {
    const size = batchSize === 1 ? "run one by one" : `run in ${batches} batches of up to ${batchSize}`;
    const message = `is ${index}/${count}, but the ${indices.length} samples ${size}: there are ${batches} shards at most`;
    throw new RecoupError("usage/argument", message, { field: "--shard" });
  }
  const startOf = (number: number) => Math.floor((number * batches) / count) * batchSize;
  return indices.slice(startOf(index - 1), startOf(index));
}

/** @throws RecoupError `usage/argument` */
export function checkShard({ index, count }: Shard): void {
  if (Number.isInteger(index) && Number.isInteger(count) && index >= 1 && index <= count) return;
  const message = `is a part like 2/8, the second of eight, not ${index}/${count}`;
  throw new RecoupError("usage/argument", message, { field: "--shard" });
}
