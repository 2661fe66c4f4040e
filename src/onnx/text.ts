/** A byte order mark is part of the text: names must stay the same wherever they stand. */
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Where bytes that are no UTF-8 go: lone halves of surrogate pairs, which no UTF-8 decodes to. */
const escapeBase = 0xdc00;
const escaped = /[\udc80-\udcff]/u;

/**
 * Bytes of a file as text, from which `encodeText` makes the same bytes again. Names of values and nodes should be UTF-8,
 * but older exporters wrote whatever the user's machine spoke, and runtimes do not mind. A byte that is no part of UTF-8
 * becomes the lone surrogate U+DC00 + byte, so that two names never become one.
 *
 * @see PEP 383 (Python's "surrogateescape")
 */
export function decodeText(bytes: Uint8Array): string {
  try {
    return strict.decode(bytes);
  } catch {
    return decodePieces(bytes);
  }
}

/** The bytes of a text, those of `decodeText` as they were. */
export function encodeText(text: string): Uint8Array {
  if (!escaped.test(text)) return new TextEncoder().encode(text);
  // A unit of a string takes three bytes at most; the pairs that take four are two units.
  const bytes = new Uint8Array(3 * text.length);
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.codePointAt(i) as number;
    if (code > 0xffff) i++;
    if (code >= escapeBase + 0x80 && code <= escapeBase + 0xff) bytes[count++] = code - escapeBase;
    else count = putCodePoint(bytes, count, code);
  }
  return bytes.slice(0, count);
}

/** Writes UTF-8, and tells where it ends. */
function putCodePoint(bytes: Uint8Array, position: number, code: number): number {
  if (code < 0x80) {
    bytes[position] = code;
    return position + 1;
  }
  const following = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  // As many ones as there are bytes, then the upper bits.
  bytes[position] = ((0xff << (7 - following)) & 0xff) | (code >> (6 * following));
  for (let i = 1; i <= following; i++) bytes[position + i] = 0x80 | ((code >> (6 * (following - i))) & 0x3f);
  return position + 1 + following;
}

/** One pass over all bytes, since in a broken file a name may be the megabytes of a weight. */
function decodePieces(bytes: Uint8Array): string {
  const units = new Uint16Array(bytes.byteLength);
  let count = 0;
  for (let position = 0; position < bytes.byteLength; ) {
    const length = sequenceLength(bytes, position);
    if (length === 0) units[count++] = escapeBase + bytes[position++];
    else {
      const code = codePointAt(bytes, position, length);
      position += length;
      if (code < 0x10000) units[count++] = code;
      else {
        units[count++] = 0xd800 + ((code - 0x10000) >> 10);
        units[count++] = 0xdc00 + ((code - 0x10000) & 0x3ff);
      }
    }
  }
  const pieces: string[] = [];
  for (let start = 0; start < count; start += pieceUnits) {
    pieces.push(String.fromCharCode(...units.subarray(start, Math.min(start + pieceUnits, count))));
  }
  return pieces.join("");
}

/** A function takes only so many arguments. */
const pieceUnits = 8192;

/**
 * Bytes of the UTF-8 sequence at a position; 0 where there is none.
 *
 * @see The Unicode Standard, table 3-7, "Well-Formed UTF-8 Byte Sequences"
 */
function sequenceLength(bytes: Uint8Array, position: number): number {
  const first = bytes[position];
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const second = bytes[position + 1];
  if (first < 0xe0) return isContinuation(second) ? 2 : 0;
  if (first < 0xf0) {
    const [least, most] = first === 0xe0 ? [0xa0, 0xbf] : [0x80, first === 0xed ? 0x9f : 0xbf];
    return second >= least && second <= most && isContinuation(bytes[position + 2]) ? 3 : 0;
  }
  const [least, most] = first === 0xf0 ? [0x90, 0xbf] : [0x80, first === 0xf4 ? 0x8f : 0xbf];
  const isWhole = isContinuation(bytes[position + 2]) && isContinuation(bytes[position + 3]);
  return second >= least && second <= most && isWhole ? 4 : 0;
}

/** Undefined, past the end, is none. */
function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}

function codePointAt(bytes: Uint8Array, position: number, length: number): number {
  let code = length === 1 ? bytes[position] : bytes[position] & (0x7f >> length);
  for (let i = 1; i < length; i++) code = (code << 6) | (bytes[position + i] & 0x3f);
  return code;
}
