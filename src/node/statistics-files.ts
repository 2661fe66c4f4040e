import { inOrder } from "../shards/merge.js";
import { readStatistics, type ShardStatistics } from "../shards/statistics-file.js";
import { readWholeFile } from "./whole-file.js";

/**
 * The statistics of all shards, in order.
 *
 * @throws RecoupError `file/not-found`, `file/unreadable`, `statistics/malformed`, and `statistics/mismatch` where they are
 * not every shard once
 */
export async function readShards(paths: readonly string[]): Promise<readonly ShardStatistics[]> {
  const shards: ShardStatistics[] = [];
  for (const path of paths) shards.push(await readStatistics(readWholeFile(path), path));
  return inOrder(shards);
}
