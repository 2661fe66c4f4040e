import { RecoupError } from "../errors.js";
import { bytesFor } from "../tensor/element-type.js";
import { type Tensor, tensorFromBytes } from "../tensor/tensor.js";
import { formatNpyHeader, parseNpyHeader } from "./npy-header.js";

const magic = "\x93NUMPY";

/**
 * Longest header that is read, in bytes. NumPy itself refuses more than 10 000; one that it writes has about 120.
 */
const longestHeader = 65536;

/**
 * Reads a NumPy array file, format versions 1 to 3. Row-major little-endian arrays stay views of `bytes`.
 *
 * @throws RecoupError `data/unreadable` for what is not such a file, is cut short, or holds something but numbers
 * @see https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */
export function readNpy(bytes: Uint8Array): Tensor {
  const { header, offset } = readPreamble(bytes);
  const { type, isBigEndian, isFortranOrder, shape } = parseNpyHeader(header);
  const body = bytes.subarray(offset);
  const elementBytes = bytesFor(type, 1);
  const needed = shape.includes(0) ? 0 : shape.reduce((product, size) => product * size, elementBytes);
  if (body.byteLength !== needed) {
    const message = `${type}[${shape}] takes ${needed} bytes, ${body.byteLength} follow the header`;
    throw new RecoupError("data/unreadable", message, { offset });
  }
  const ordered = isFortranOrder && shape.length > 1 && needed > 0 ? toRowMajor(body, shape, elementBytes) : body;
  return tensorFromBytes(type, shape, isBigEndian && elementBytes > 1 ? swapBytes(ordered, elementBytes) : ordered);
}

/** @throws RecoupError `onnx/tensor` for an element type that NumPy does not have */
export function encodeNpy(tensor: Tensor): Uint8Array {
  const text = formatNpyHeader(tensor.type, tensor.shape);
  // The array starts at a multiple of 64 bytes, and the header ends with a line feed.
  const start = Math.ceil((10 + text.length + 1) / 64) * 64;
  const header = `${text.padEnd(start - 11)}\n`;
  const bytes = new Uint8Array(start + tensor.sizeBytes);
  bytes.set(latin1(`${magic}\x01\x00`));
  new DataView(bytes.buffer).setUint16(8, header.length, true);
  bytes.set(latin1(header), 10);
  bytes.set(tensor.bytes(), start);
  return bytes;
}

function readPreamble(bytes: Uint8Array): { readonly header: string; readonly offset: number } {
  if (bytes.byteLength < 12 || !latin1(magic).every((byte, i) => bytes[i] === byte)) {
    throw new RecoupError("data/unreadable", "is not a .npy file", { offset: 0 });
  }
  const version = bytes[6];
  if (version < 1 || version > 3) {
    throw new RecoupError("data/unreadable", `is of .npy version ${version}; 1 to 3 are read`, { offset: 6 });
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = version === 1 ? 10 : 12;
  const length = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > longestHeader || start + length > bytes.byteLength) {
    throw new RecoupError("data/unreadable", `has a header of ${length} bytes`, { offset: 8 });
  }
  const header = new TextDecoder(version === 3 ? "utf-8" : "latin1").decode(bytes.subarray(start, start + length));
  return { header, offset: start + length };
}

/** Elements stored with the first axis fastest, as they stand with the last axis fastest. */
function toRowMajor(bytes: Uint8Array, shape: readonly number[], elementBytes: number): Uint8Array {
  const result = new Uint8Array(bytes.byteLength);
  const strides: number[] = [];
  for (const [axis] of shape.entries()) {
    strides.push(axis === 0 ? elementBytes : strides[axis - 1] * shape[axis - 1]);
  }
  const position = shape.map(() => 0);
  let source = 0;
  for (let target = 0; target < result.byteLength; target += elementBytes) {
    for (let byte = 0; byte < elementBytes; byte++) result[target + byte] = bytes[source + byte];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      source += strides[axis];
      if (++position[axis] < shape[axis]) break;
      source -= strides[axis] * shape[axis];
      position[axis] = 0;
    }
  }
  return result;
}

function swapBytes(bytes: Uint8Array, elementBytes: number): Uint8Array {
  const result = bytes.slice();
  for (let start = 0; start < result.byteLength; start += elementBytes) {
    result.subarray(start, start + elementBytes).reverse();
  }
  return result;
}

function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
