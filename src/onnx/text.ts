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
  const encoder = new TextEncoder();
  if (!escaped.test(text)) return encoder.encode(text);
  const bytes: number[] = [];
  for (const character of text) {
    const code = character.codePointAt(0) as number;
    if (escaped.test(character)) bytes.push(code - escapeBase);
    else bytes.push(...encoder.encode(character));
  }
  return Uint8Array.from(bytes);
}

/** The longest sequence of UTF-8 is of four bytes. */
const longestSequence = 4;

function decodePieces(bytes: Uint8Array): string {
  const pieces: string[] = [];
  for (let position = 0; position < bytes.byteLength; ) {
    const [piece, length] = decodeNext(bytes, position);
    pieces.push(piece);
    position += length;
  }
  return pieces.join("");
}

function decodeNext(bytes: Uint8Array, position: number): readonly [piece: string, length: number] {
  const first = bytes[position];
  if (first < 0x80) return [String.fromCharCode(first), 1];
  for (let length = 2; length <= longestSequence; length++) {
    try {
      return [strict.decode(bytes.subarray(position, position + length)), length];
    } catch {
      // A longer sequence may begin here.
    }
  }
  return [String.fromCharCode(escapeBase + first), 1];
}
