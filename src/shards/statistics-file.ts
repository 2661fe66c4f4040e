import { z } from "zod";
import { type ArchiveKind, joinBytes, packArchive, unpackArchive } from "../data/archive.js";
import { RecoupError, withPlace } from "../errors.js";
import { type ShardHeader, shardHeaderSchema } from "./header.js";

/** What a shard of the calibration samples has shown. */
export interface ShardStatistics {
  readonly header: ShardHeader;
  /** What each statistic has encoded, by its key. */
  readonly statistics: ReadonlyMap<string, Uint8Array>;
  /** What errors call them: the file that they were read from. */
  readonly name?: string;
}

const format = "recoup statistics";
const formatVersion = 1;

const statisticsEntry = "statistics.bin";

const fileHeaderSchema = z.strictObject({
  format: z.literal(format),
  formatVersion: z.literal(formatVersion),
  header: shardHeaderSchema,
  /** In the order in which they stand one behind the other. */
  statistics: z.array(z.strictObject({ key: z.string(), sizeBytes: z.int().min(0) })),
  fingerprint: z.string(),
});

const kind: ArchiveKind<z.output<typeof fileHeaderSchema>> = {
  code: "statistics/malformed",
  what: "a file of statistics",
  header: fileHeaderSchema,
  parts: [statisticsEntry],
  isCompressed: true,
};

/**
 * Statistics as a file: a zip archive of `header.json` and `statistics.bin`. The header holds `ShardHeader`, the key and the
 * size of each statistic in the order of their bytes, and the fingerprint of these. The same statistics give the same bytes.
 */
export async function encodeStatistics({ header, statistics }: ShardStatistics): Promise<Uint8Array> {
  const sizes = [...statistics].map(([key, { byteLength: sizeBytes }]) => ({ key, sizeBytes }));
  return packArchive(kind, { format, formatVersion, header, statistics: sizes }, [joinBytes([...statistics.values()])]);
}

/**
 * Reads what `encodeStatistics` has written.
 *
 * @param name what errors call it, and the statistics later on
 * @throws RecoupError `statistics/malformed`
 */
export async function readStatistics(bytes: Uint8Array, name?: string): Promise<ShardStatistics> {
  try {
    const {
      header,
      parts: [joined],
    } = await unpackArchive(kind, bytes);
    const statistics = new Map<string, Uint8Array>();
    let end = 0;
    for (const { key, sizeBytes } of header.statistics) {
      statistics.set(key, joined.subarray(end, end + sizeBytes));
      end += sizeBytes;
    }
    if (statistics.size !== header.statistics.length) throw malformed("holds a statistic twice");
    if (end !== joined.byteLength) throw malformed("has other sizes than its header says", statisticsEntry);
    return { header: header.header, statistics, name };
  } catch (error) {
    throw withPlace(error, { file: name });
  }
}

function malformed(message: string, field?: string): RecoupError {
  return new RecoupError("statistics/malformed", message, { field });
}
