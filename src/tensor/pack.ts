/**
 * Codes below 8 bits packed so that whole arrays can be unpacked with one shift (and one remainder) per segment: value i
 * of segment s stands in byte i at bits s · width … . 3, 5, 6 and 7 bits are cut into planes of 4, 2 and 1 bits, low bits
 * first.
 */
export interface PackedPlane {
  /** Bits of each code in this plane: 4, 2 or 1. */
  readonly width: 4 | 2 | 1;
  /** How far the plane's bits stand above bit 0 of the code. */
  readonly shift: number;
  readonly bytes: Uint8Array;
}

const planeWidths: Readonly<Record<number, readonly (4 | 2 | 1)[]>> = {
  2: [2],
  3: [2, 1],
  4: [4],
  5: [4, 1],
  6: [4, 2],
  7: [4, 2, 1],
};

/** Codes are padded with zeros to a multiple of this, so that the planes of all widths have whole bytes. */
export const packedMultiple = 8;

/** @param codes unsigned, below 2^bits; `bits` from 2 to 7 */
export function packCodes(codes: Uint8Array, bits: number): readonly PackedPlane[] {
  const padded = Math.ceil(codes.length / packedMultiple) * packedMultiple;
  let shift = 0;
  return planeWidths[bits].map((width) => {
    const segment = (padded * width) / 8;
    const bytes = new Uint8Array(segment);
    const mask = (1 << width) - 1;
    for (let i = 0; i < codes.length; i++) {
      bytes[i % segment] |= ((codes[i] >> shift) & mask) << (width * Math.floor(i / segment));
    }
    const plane = { width, shift, bytes };
    shift += width;
    return plane;
  });
}

/** ONNX's own packing of 4-bit and 2-bit types: consecutive elements share a byte, the first one lowest. */
export function packConsecutive(codes: ArrayLike<number>, bits: 4 | 2): Uint8Array {
  const perByte = 8 / bits;
  const bytes = new Uint8Array(Math.ceil(codes.length / perByte));
  const mask = (1 << bits) - 1;
  for (let i = 0; i < codes.length; i++) {
    bytes[Math.floor(i / perByte)] |= (codes[i] & mask) << (bits * (i % perByte));
  }
  return bytes;
}
