import { z } from "zod";
import { fingerprintOf } from "../data/fingerprint.js";
import { unzip, zip } from "../data/zip.js";
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

const headerEntry = "header.json";
const statisticsEntry = "statistics.bin";

const fileHeaderSchema = z.strictObject({
  format: z.literal(format),
  formatVersion: z.literal(formatVersion),
  header: shardHeaderSchema,
  /** In the order in which they stand one behind the other. */
  statistics: z.array(z.strictObject({ key: z.string(), sizeBytes: z.int().min(0) })),
  fingerprint: z.string(),
});

type FileHeader = z.output<typeof fileHeaderSchema>;

/**
 * Statistics as a file: a zip archive of `header.json` and `statistics.bin`. The header holds `ShardHeader`, the key and the
 * size of each statistic in the order of their bytes, and the fingerprint of these. The same statistics give the same bytes.
 */
export async function encodeStatistics({ header, statistics }: ShardStatistics): Promise<Uint8Array> {
  const parts = [...statistics.values()];
  const joined = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let position = 0;
  for (const part of parts) {
    joined.set(part, position);
    position += part.byteLength;
  }
  const fileHeader: FileHeader = {
    format,
    formatVersion,
    header,
    statistics: [...statistics].map(([key, { byteLength: sizeBytes }]) => ({ key, sizeBytes })),
    fingerprint: await fingerprintOf([joined]),
  };
  const text = new TextEncoder().encode(`${JSON.stringify(fileHeader, null, 2)}\n`);
  return zip(
    new Map([
      [headerEntry, text],
      [statisticsEntry, joined],
    ]),
  );
}

/**
 * Reads what `encodeStatistics` has written.
 *
 * @param name what errors call it, and the statistics later on
 * @throws RecoupError `statistics/malformed`
 */
export async function readStatistics(bytes: Uint8Array, name?: string): Promise<ShardStatistics> {
  try {
    const { fileHeader, joined } = openArchive(bytes);
    const statistics = new Map<string, Uint8Array>();
    let end = 0;
    for (const { key, sizeBytes } of fileHeader.statistics) {
      statistics.set(key, joined.subarray(end, end + sizeBytes));
      end += sizeBytes;
    }
    if (statistics.size !== fileHeader.statistics.length) throw malformed("holds a statistic twice");
    if (end !== joined.byteLength || (await fingerprintOf([joined])) !== fileHeader.fingerprint) {
      throw malformed("is damaged: its bytes are not those that were written", statisticsEntry);
    }
    return { header: fileHeader.header, statistics, name };
  } catch (error) {
    throw withPlace(error, { file: name });
  }
}

function openArchive(bytes: Uint8Array): { readonly fileHeader: FileHeader; readonly joined: Uint8Array } {
  const entries = unzip(bytes, {
    code: "statistics/malformed",
    what: "a file of statistics",
    isWanted: (name) => name === headerEntry || name === statisticsEntry,
    mostEntries: 2,
    entries: "entries",
  });
  const [header, joined] = [entries.get(headerEntry), entries.get(statisticsEntry)];
  if (header === undefined || joined === undefined) throw malformed("is not a file of statistics");
  return { fileHeader: readHeader(header), joined };
}

function readHeader(bytes: Uint8Array): FileHeader {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw malformed(`is not JSON: ${(cause as Error).message}`, headerEntry);
  }
  const result = fileHeaderSchema.safeParse(value);
  if (result.success) return result.data;
  const [{ path, message }] = result.error.issues;
  throw malformed(message, [headerEntry, ...path.map(String)].join("."));
}

function malformed(message: string, field?: string): RecoupError {
  return new RecoupError("statistics/malformed", message, { field });
}
