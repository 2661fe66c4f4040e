import fc from "fast-check";
import { unzipSync, zipSync } from "fflate";
import { describe, expect, it } from "vitest";
import { RecoupError } from "../errors.js";
import { encodeStatistics, readStatistics, type ShardStatistics } from "./statistics-file.js";

const some: ShardStatistics = {
  header: {
    version: "1.2.3",
    model: "a".repeat(64),
    opset: 17,
    seed: 0,
    samples: 40,
    available: 100,
    prepared: null,
    batchSize: 16,
    shard: { index: 2, count: 3 },
    data: { samples: 16, fingerprint: "b".repeat(64) },
  },
  statistics: new Map([
    ["range float ../../y", Uint8Array.of(1, 2, 3)],
    ["range float leer", new Uint8Array()],
    ["histogram float größer", Uint8Array.from({ length: 999 }, (_, i) => i % 7)],
  ]),
};

const malformed = { code: "statistics/malformed", exitCode: 2 };
const read = (bytes: Uint8Array) => readStatistics(bytes, "a.statistics");

/** A file whose header was changed. */
async function withHeader(change: (header: Record<string, unknown>) => unknown): Promise<Uint8Array> {
  const entries = unzipSync(await encodeStatistics(some));
  const header = change(JSON.parse(new TextDecoder().decode(entries["header.json"])));
  return zipSync({ ...entries, "header.json": new TextEncoder().encode(JSON.stringify(header)) });
}

describe("a file of statistics", () => {
  it("gives back what was written, and names it", async () => {
    const { header, statistics, name } = await read(await encodeStatistics(some));
    expect(name).toBe("a.statistics");
    expect(header).toEqual(some.header);
    expect([...statistics]).toEqual([...some.statistics]);
  });

  it("is the same bytes at any time", async () => {
    const first = await encodeStatistics(some);
    expect(await encodeStatistics({ ...some, name: "other" })).toEqual(first);
    // The year of the entries: nothing of the day on which they were written.
    expect((new DataView(first.buffer, first.byteOffset).getUint16(12, true) >> 9) + 1980).toBe(1980);
  });

  it.each<readonly [about: string, bytes: Uint8Array]>([
    ["nothing", new Uint8Array()],
    ["no archive", new TextEncoder().encode("these are no statistics")],
    ["another archive", zipSync({ "x.npy": new Uint8Array(8) })],
    ["a header that is no JSON", zipSync({ "header.json": new Uint8Array(8), "statistics.bin": new Uint8Array() })],
  ])("is not %s", async (_about, bytes) => {
    await expect(read(bytes)).rejects.toMatchObject({ ...malformed, place: { file: "a.statistics" } });
  });

  it.each<readonly [about: string, change: (header: Record<string, unknown>) => unknown, field: string]>([
    ["of a later format", (header) => ({ ...header, formatVersion: 2 }), "header.json.formatVersion"],
    ["of another format", (header) => ({ ...header, format: "picture" }), "header.json.format"],
    [
      "without a seed",
      ({ header, ...rest }) => ({ ...rest, header: { ...(header as object), seed: undefined } }),
      "seed",
    ],
    [
      "of a shard that there is not",
      ({ header, ...rest }) => ({ ...rest, header: { ...(header as object), shard: { index: 4, count: 3 } } }),
      "header.json.header.shard",
    ],
    ["with other sizes", (header) => ({ ...header, statistics: [{ key: "x", sizeBytes: 5 }] }), "statistics.bin"],
    ["of nothing", () => null, "header.json"],
  ])("is not one %s", async (_about, change, field) => {
    await expect(read(await withHeader(change))).rejects.toMatchObject({
      ...malformed,
      place: { file: "a.statistics", field: expect.stringContaining(field) },
    });
  });

  it("holds no statistic twice", async () => {
    const twice = [3, 0, 999].map((sizeBytes) => ({ key: "x", sizeBytes }));
    await expect(read(await withHeader((header) => ({ ...header, statistics: twice })))).rejects.toMatchObject(
      malformed,
    );
  });

  it("is refused where it was cut", async () => {
    const bytes = await encodeStatistics(some);
    for (const length of [1, 100, bytes.length - 30, bytes.length - 1]) {
      await expect(read(bytes.subarray(0, length))).rejects.toMatchObject(malformed);
    }
  });

  it("is refused, or the statistics are those that were written, where bytes were changed", async () => {
    const original = await encodeStatistics(some);
    await fc.assert(
      fc.asyncProperty(fc.nat(original.length - 1), fc.nat(255), async (position, value) => {
        const bytes = original.slice();
        bytes[position] = value;
        try {
          const { statistics } = await read(bytes);
          expect([...statistics.values()]).toEqual([...some.statistics.values()]);
        } catch (error) {
          expect(error).toBeInstanceOf(RecoupError);
        }
      }),
      { numRuns: 300, seed: 1 },
    );
  });
});
