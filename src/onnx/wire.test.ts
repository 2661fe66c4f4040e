import { describe, expect, it } from "vitest";
import { bytes, concat, hex, number, tag, text, varint } from "../../test/wire.js";
import { NodeProtoSchema } from "./gen/onnx_pb.js";
import { bytesOfChunk, cutRecords, decodeMessage, lengthPrefix, textOf, varintOf, varintsOf } from "./wire.js";

const malformed = (message: string) => expect.objectContaining({ code: "onnx/malformed", message });

describe("cutRecords", () => {
  it("cuts a message by hand", () => {
    const message = Uint8Array.from([0x08, 0x96, 0x01, 0x12, 0x02, 0x68, 0x69, 0x1d, 1, 2, 3, 4]);
    const records = cutRecords(message, "m").map(({ field, wireType, raw, body }) => [
      field,
      wireType,
      hex(raw),
      hex(body),
    ]);
    expect(records).toEqual([
      [1, 0, "089601", "9601"],
      [2, 2, "12026869", "6869"],
      [3, 5, "1d01020304", "01020304"],
    ]);
  });

  it("copies nothing", () => {
    const message = concat(bytes(7, new Uint8Array(100)));
    expect(cutRecords(message, "m")[0].body.buffer).toBe(message.buffer);
  });

  it("keeps overlong tags and lengths, and groups", () => {
    const overlong = concat(varint(2 * 8 + 2, 3), varint(2, 4), Uint8Array.of(7, 8));
    const group = concat(tag(3, 3), number(1, 5), tag(3, 4));
    const records = cutRecords(concat(overlong, group), "m");
    expect(records.map((record) => hex(record.raw))).toEqual([hex(overlong), hex(group)]);
    expect(hex(records[0].body)).toBe("0708");
  });

  it.each<readonly [about: string, message: Uint8Array]>([
    ["a length past the end", Uint8Array.of(0x12, 3, 1, 2)],
    ["a length of 4 GiB", concat(tag(2, 2), varint(2 ** 32 - 1))],
    ["a varint that does not end", Uint8Array.of(0x08, 0x80)],
    ["field number 0", Uint8Array.of(0x00, 1)],
    ["wire type 7", Uint8Array.of(0x0f, 1)],
    ["the end of a group that never began", tag(1, 4)],
    ["a group that never ends", tag(1, 3)],
    ["groups in groups", concat(...Array.from({ length: 200 }, () => tag(1, 3)))],
    ["a tag alone", Uint8Array.of(0x09)],
  ])("refuses %s", (_about, message) => {
    const start = concat(number(1, 1));
    expect(() => cutRecords(concat(start, message), "m")).toThrow(
      malformed(`is broken at byte 2 of ${message.length + 2}`),
    );
  });
});

describe("decodeMessage", () => {
  const decode = (...parts: readonly Uint8Array[]) => decodeMessage(NodeProtoSchema, concat(...parts), "node");

  it("reads fields in any order", () => {
    const { input, output, opType } = decode(text(4, "Relu"), text(2, "y"), text(1, "a"), text(1, "b"));
    expect([...input, ...output, opType].map((name) => Buffer.from(name).toString())).toEqual(["a", "b", "y", "Relu"]);
  });

  it("refuses a length that swallows the next field of its parent", () => {
    expect(() => decode(Uint8Array.of(0x0a, 5, 0x61), text(4, "R"))).toThrow(malformed("is broken at byte 0 of 6"));
  });

  it("refuses a known field of another wire type", () => {
    expect(() => decode(number(4, 3))).toThrow(malformed("has wire type 0, which its type does not allow"));
  });
});

describe("the values of records", () => {
  const record = (message: Uint8Array) => cutRecords(message, "m")[0];

  it("reads varints, signed and overlong", () => {
    expect(varintOf(record(number(1, 300)), "m")).toBe(300);
    expect(varintOf(record(number(1, -1)), "m")).toBe(-1);
    expect(varintOf(record(number(1, 5, 10)), "m")).toBe(5);
  });

  it("refuses a varint of more than ten bytes and one that is none", () => {
    expect(() => varintOf(record(number(1, 5, 11)), "m")).toThrow(malformed("has a broken number"));
    expect(() => varintOf(record(text(1, "a")), "m")).toThrow(malformed("has wire type 2, not a varint"));
  });

  it("reads repeated varints, packed and not, in order", () => {
    const records = cutRecords(concat(number(1, 1), bytes(1, varint(2), varint(-3)), number(2, 9), number(1, 4)), "m");
    expect(varintsOf(records, 1, "m")).toEqual([1n, 2n, -3n, 4n]);
    expect(() => varintsOf(cutRecords(bytes(1, Uint8Array.of(0x80)), "m"), 1, "m")).toThrow(
      malformed("has a broken number"),
    );
  });

  it("reads texts whatever their bytes, and nothing else as a text", () => {
    expect(textOf(record(bytes(1, Uint8Array.of(0x4d, 0xfc))), "m")).toBe("M\udcfc");
    expect(() => textOf(record(number(1, 1)), "m")).toThrow(malformed("has wire type 0, not a length"));
  });
});

it("writes the prefix of a length by hand", () => {
  expect(hex(lengthPrefix(7, 300))).toBe("3aac02");
});

it("refuses a chunk that is not as large as it said", () => {
  expect(() => bytesOfChunk({ sizeBytes: 2, bytes: () => new Uint8Array(3) })).toThrow("gave 3");
});
