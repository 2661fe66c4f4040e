import type { Graph, Node } from "../graph/graph.js";
import { intAttribute } from "../graph/node.js";
import { bitsOf, isFloatType } from "../tensor/element-type.js";
import { elementCount, resolveAxis } from "../tensor/shape.js";
import { float32Tensor, float32Values, integerValues, type Tensor } from "../tensor/tensor.js";

/** How codes of a constant stand for numbers: real = (code - zeroPoint) · scale. */
export interface CodeGrid {
  /** One, one per index along the axis, or one per block along it. */
  readonly scale: Tensor;
  /** As many as scales; zero where it is not given. */
  readonly zeroPoint?: Tensor;
  readonly axis: number;
  /** Neighbours along the axis that share a scale, where scales are blockwise. */
  readonly blockSize?: number;
}

/** The numbers that constant codes stand for; undefined for codes that are no integers, or where the sizes do not fit. */
export function dequantizeCodes(codes: Tensor, { scale, zeroPoint, axis, blockSize }: CodeGrid): Tensor | undefined {
  if (isFloatType(codes.type) || bitsOf(codes.type) > 32 || !isFloatType(scale.type)) return undefined;
  const scales = float32Values(scale);
  const zeros = zeroPoint === undefined || isFloatType(zeroPoint.type) ? undefined : integerValues(zeroPoint);
  const rank = codes.shape.length;
  const along = rank === 0 ? 0 : resolveAxis(axis, rank);
  const size = codes.shape[along] ?? 1;
  const inner = elementCount(codes.shape.slice(along + 1));
  const steps = blockSize ? Math.ceil(size / blockSize) : size;
  const perOuter = blockSize ? steps * inner : size;
  const isOne = scales.length === 1;
  const fits = blockSize
    ? scales.length === elementCount(codes.shape.slice(0, along)) * perOuter
    : scales.length === size;
  if (!isOne && !fits) return undefined;
  const indexOf = (i: number) => {
    if (isOne) return 0;
    const place = Math.floor(i / inner) % size;
    if (!blockSize) return place;
    return Math.floor(i / (inner * size)) * perOuter + Math.floor(place / blockSize) * inner + (i % inner);
  };
  const values = Float32Array.from(integerValues(codes), (code, i) => {
    const at = indexOf(i);
    return (code - (zeros?.[at] ?? 0)) * scales[at];
  });
  return float32Tensor(codes.shape, values);
}

/**
 * The weight `[K, N]` that a `MatMulNBits` of onnxruntime multiplies with: codes `[N, K / block, block · bits / 8]`, a scale
 * per row and block, zero points packed row by row or as numbers; the middle of the codes where there are none.
 */
export function dequantizeBlocks(graph: Graph, node: Node): Tensor | undefined {
  const [, codesName, scalesName, zerosName = "", groupName = ""] = node.inputs;
  const [codes, scales] = [graph.constant(codesName), graph.constant(scalesName)];
  const [rows, columns] = [intAttribute(node, "N", 0), intAttribute(node, "K", 0)];
  const [bits, block] = [intAttribute(node, "bits", 4), intAttribute(node, "block_size", 32)];
  if (codes?.type !== "uint8" || scales === undefined || !isFloatType(scales.type) || groupName !== "")
    return undefined;
  if (![2, 4, 8].includes(bits) || rows === 0 || columns === 0) return undefined;
  const blocks = Math.ceil(columns / block);
  const zeros = zeroPointsOf(graph.constant(zerosName), { rows, blocks, bits });
  const factors = float32Values(scales);
  const bytes = codes.bytes();
  if (factors.length !== rows * blocks || bytes.length !== (rows * blocks * block * bits) / 8) return undefined;
  const values = new Float32Array(columns * rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = row * blocks + Math.floor(column / block);
      values[column * rows + row] = (codeAt(bytes, at * block + (column % block), bits) - zeros(row, at)) * factors[at];
    }
  }
  return float32Tensor([columns, rows], values);
}

function zeroPointsOf(
  tensor: Tensor | undefined,
  { rows, blocks, bits }: { readonly rows: number; readonly blocks: number; readonly bits: number },
): (row: number, at: number) => number {
  if (tensor === undefined) return () => 2 ** (bits - 1);
  if (isFloatType(tensor.type)) {
    const values = float32Values(tensor);
    return (_row, at) => values[at] ?? 0;
  }
  // Each row begins with a byte of its own.
  const perRow = tensor.sizeBytes / rows;
  const bytes = tensor.bytes();
  return (row, at) => codeAt(bytes.subarray(row * perRow), at - row * blocks, bits);
}

/** The first code of a byte stands lowest. */
function codeAt(bytes: Uint8Array, index: number, bits: number): number {
  const perByte = 8 / bits;
  return (bytes[Math.floor(index / perByte)] >> (bits * (index % perByte))) & (2 ** bits - 1);
}

/** What a `DequantizeLinear` of constants gives; undefined where it is none. */
export function dequantizedConstant(graph: Graph, node: Node, codes: Tensor): Tensor | undefined {
  const [, scaleName, zeroName = ""] = node.inputs;
  const scale = graph.constant(scaleName);
  const zeroPoint = graph.constant(zeroName);
  if (scale === undefined || (zeroName !== "" && zeroPoint === undefined)) return undefined;
  const blockSize = intAttribute(node, "block_size", 0) || undefined;
  return dequantizeCodes(codes, { scale, zeroPoint, axis: intAttribute(node, "axis", 1), blockSize });
}
