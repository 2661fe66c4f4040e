/** Ways to break the bytes of a model: some blindly, some field by field, with all lengths around put right again. */
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { cutRecords } from "../../dist/onnx/wire.js";

/** @typedef {import("../../dist/math/random.js").Random} Random */
/** @typedef {import("../../dist/onnx/wire.js").WireRecord} WireRecord */

/** Numbers where something ends. */
const extremes = [0, 1, 2, 127, 128, 255, 32767, 65536, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53, -1, -2, -(2 ** 31)];

const mostMutations = 4;
/** No deeper: a model has about so many messages inside each other. */
const mostDepth = 12;
/** Tries to go on inside a field: three of four. */
const descend = { of: 4, below: 3 };

/**
 * @param {Uint8Array} model
 * @param {Uint8Array} other of which parts may be taken over
 * @param {Random} random
 * @returns {Uint8Array} another array
 */
export function mutate(model, other, random) {
  let bytes = Uint8Array.from(model);
  const count = 1 + random.below(mostMutations);
  for (let i = 0; i < count; i++) bytes = mutateOnce(bytes, other, random);
  return bytes;
}

function mutateOnce(bytes, other, random) {
  switch (random.below(16)) {
    case 0:
      return flipBits(bytes, random);
    case 1:
      return setBytes(bytes, random);
    case 2:
      return random.below(4) === 0 ? bytes.subarray(0, random.below(bytes.length + 1)) : flipBits(bytes, random);
    case 3:
      return splice(bytes, other, random);
    default:
      return mutateFields(bytes, other, random, 0);
  }
}

function flipBits(bytes, random) {
  const flipped = Uint8Array.from(bytes);
  for (let i = random.below(8); i >= 0 && flipped.length > 0; i--) {
    flipped[random.below(flipped.length)] ^= 1 << random.below(8);
  }
  return flipped;
}

function setBytes(bytes, random) {
  if (bytes.length === 0) return bytes;
  const set = Uint8Array.from(bytes);
  const start = random.below(set.length);
  return set.fill([0, 0x7f, 0x80, 0xff][random.below(4)], start, start + 1 + random.below(10));
}

function splice(bytes, other, random) {
  const [start, from] = [random.below(bytes.length + 1), random.below(other.length + 1)];
  const piece = other.subarray(from, from + random.below(200));
  return Uint8Array.from(Buffer.concat([bytes.subarray(0, start), piece, bytes.subarray(start + random.below(200))]));
}

function mutateFields(message, other, random, depth) {
  const records = cut(message);
  if (records === undefined) return flipBits(message, random);
  const raws = records.map((one) => one.raw);
  const at = random.below(records.length);
  const record = records[at];
  const isInner = record.wireType === WireType.LengthDelimited && depth < mostDepth;
  if (isInner && random.below(descend.of) < descend.below && cut(record.body) !== undefined) {
    const body = mutateFields(record.body, innerOf(other, record.field, random) ?? other, random, depth + 1);
    return join(raws.with(at, fieldOf(record.field, body)));
  }
  const otherRecords = cut(other);
  switch (random.below(8)) {
    case 0:
      return join(raws.toSpliced(at, 0, record.raw));
    case 1:
      return join(raws.toSpliced(at, 1));
    case 2: {
      const to = random.below(records.length);
      return join(raws.with(at, raws[to]).with(to, record.raw));
    }
    case 3:
      if (otherRecords === undefined) return join(raws.toReversed());
      return join(raws.toSpliced(at, random.below(2), otherRecords[random.below(otherRecords.length)].raw));
    case 4:
      return join(raws.with(at, numberField(record.field, extremes[random.below(extremes.length)])));
    case 5:
      return join(raws.with(at, fieldOf(record.field, flipBits(record.body, random))));
    case 6: {
      // Two names become one, or a name one that nobody knows.
      const source = records[random.below(records.length)];
      return join(raws.with(at, fieldOf(record.field, source.body)));
    }
    default: {
      // Many of one kind.
      const copies = Array.from({ length: random.below(100) }, () => record.raw);
      return join(raws.toSpliced(at, 0, ...copies));
    }
  }
}

/** A field of the other model of the same number, so that parts of the same kind are exchanged. */
function innerOf(other, field, random) {
  const alike = (cut(other) ?? []).filter((record) => record.field === field && record.body.length > 0);
  return alike.length === 0 ? undefined : alike[random.below(alike.length)].body;
}

/** @returns {readonly WireRecord[] | undefined} undefined for what is no message, or an empty one */
function cut(message) {
  try {
    const records = cutRecords(message, "");
    return records.length > 0 ? records : undefined;
  } catch {
    return undefined;
  }
}

function join(raws) {
  return Uint8Array.from(Buffer.concat(raws));
}

function fieldOf(field, body) {
  return new BinaryWriter().tag(field, WireType.LengthDelimited).bytes(body).finish();
}

function numberField(field, value) {
  return new BinaryWriter().tag(field, WireType.Varint).int64(BigInt(value)).finish();
}
