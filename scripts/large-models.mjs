/** Models that are too large to be kept: made when they are needed, in a folder that goes afterwards. */
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import { buildGraph } from "../dist/graph/graph.js";
import { makeModel } from "../dist/graph/model.js";
import { makeNode } from "../dist/graph/node.js";
import { encodeModel, joinChunks } from "../dist/onnx/model.js";
import { float32Tensor } from "../dist/tensor/tensor.js";

/** @typedef {import("../dist/graph/graph.js").Node} Node */
/** @typedef {import("../dist/tensor/tensor.js").Tensor} Tensor */

/** Bytes at the beginning of each tensor that are written: the rest of the file is a hole, which takes no disk. */
const writtenBytes = 2 ** 16;

/**
 * A chain of `MatMul` and `Relu` whose weights stand in `PATH.data`: almost all of them zero, so that most of the file need
 * not exist.
 *
 * @param {string} path
 * @param {{ layers: number, size: number }} shape weights are `[size, size]`, in float32
 * @returns {number} bytes of the weights
 */
export function writeMatMulChain(path, { layers, size }) {
  const sizeBytes = 4 * size * size;
  const start = float32Tensor(
    [writtenBytes / 4],
    Float32Array.from({ length: writtenBytes / 4 }, (_, i) => Math.sin(i * 0.7) / Math.sqrt(size)),
  ).bytes();
  /** @type {Tensor} */
  const weight = {
    type: "float32",
    shape: [size, size],
    sizeBytes,
    bytes() {
      throw new Error("only the place of the weight is written");
    },
  };
  const nodes = Array.from({ length: layers }, (_, i) => [
    makeNode("MatMul", [i === 0 ? "x" : `r${i - 1}`, `w${i}`], [`m${i}`]),
    makeNode("Relu", [`m${i}`], [`r${i}`]),
  ]).flat();
  const initializers = Array.from({ length: layers }, (_, i) => [`w${i}`, weight]);
  const model = modelOf(nodes, ["batch", size], `r${layers - 1}`, ["batch", size], new Map(initializers));
  const { chunks, externalChunks } = encodeModel(model, { externalLocation: `${path.split("/").at(-1)}.data` });
  writeFileSync(path, joinChunks(chunks));
  const file = openSync(`${path}.data`, "w");
  let position = 0;
  for (const chunk of externalChunks) {
    if (chunk.sizeBytes === sizeBytes) writeSync(file, start, 0, start.length, position);
    position += chunk.sizeBytes;
  }
  ftruncateSync(file, position);
  closeSync(file);
  return position;
}

/**
 * A chain of `count` nodes, each `Add` with a constant of its own: as many nodes as initializers.
 *
 * @param {string} path
 * @param {number} count
 */
export function writeAddChain(path, count) {
  const nodes = Array.from({ length: count }, (_, i) =>
    makeNode("Add", [i === 0 ? "x" : `v${i - 1}`, `c${i}`], [`v${i}`]),
  );
  const initializers = new Map(nodes.map((_, i) => [`c${i}`, float32Tensor([1], [i])]));
  writeWhole(path, modelOf(nodes, [1], `v${count - 1}`, [1], initializers));
}

/**
 * `count` layers, each a `MatMul` with a small weight of its own and a `Relu`.
 *
 * @param {string} path
 * @param {number} count
 */
export function writeLayerChain(path, count) {
  const size = 4;
  const values = Float32Array.from({ length: size * size }, (_, i) => Math.sin(i));
  const nodes = Array.from({ length: count }, (_, i) => [
    makeNode("MatMul", [i === 0 ? "x" : `r${i - 1}`, `w${i}`], [`m${i}`]),
    makeNode("Relu", [`m${i}`], [`r${i}`]),
  ]).flat();
  const initializers = new Map(Array.from({ length: count }, (_, i) => [`w${i}`, float32Tensor([size, size], values)]));
  writeWhole(path, modelOf(nodes, ["batch", size], `r${count - 1}`, ["batch", size], initializers));
}

/**
 * One value that `count` nodes read, each with a constant weight, and whose results one node joins.
 *
 * @param {string} path
 * @param {number} count
 */
export function writeFanOut(path, count) {
  const readers = Array.from({ length: count }, (_, i) => makeNode(i % 2 ? "Relu" : "Neg", ["h"], [`v${i}`]));
  const all = readers.map((node) => node.outputs[0]);
  const nodes = [makeNode("MatMul", ["x", "w"], ["h"]), ...readers, makeNode("Sum", all, ["y"])];
  const initializers = new Map([["w", float32Tensor([2, 2], [1, 2, 3, 4])]]);
  writeWhole(path, modelOf(nodes, [1, 2], "y", [1, 2], initializers));
}

/**
 * One weight that `count` layers read.
 *
 * @param {string} path
 * @param {number} count
 */
export function writeSharedWeight(path, count) {
  const size = 4;
  const values = Float32Array.from({ length: size * size }, (_, i) => Math.sin(i));
  const nodes = Array.from({ length: count }, (_, i) =>
    makeNode("MatMul", [i === 0 ? "x" : `m${i - 1}`, "w"], [`m${i}`]),
  );
  const initializers = new Map([["w", float32Tensor([size, size], values)]]);
  writeWhole(path, modelOf(nodes, ["batch", size], `m${count - 1}`, ["batch", size], initializers));
}

/**
 * @param {readonly Node[]} nodes
 * @param {readonly (number | string)[]} inputShape
 * @param {string} output
 * @param {readonly (number | string)[]} outputShape
 * @param {ReadonlyMap<string, Tensor>} initializers
 */
function modelOf(nodes, inputShape, output, outputShape, initializers) {
  const graph = buildGraph({
    name: "large",
    inputs: [{ name: "x", type: { kind: "tensor", elementType: "float32", shape: inputShape } }],
    outputs: [{ name: output, type: { kind: "tensor", elementType: "float32", shape: outputShape } }],
    nodes,
    initializers,
    valueInfo: new Map(),
  });
  return makeModel(graph, { irVersion: 8, opsets: new Map([["", 17]]) });
}

/** @param {string} path @param {import("../dist/graph/model.js").Model} model */
function writeWhole(path, model) {
  writeFileSync(path, joinChunks(encodeModel(model).chunks));
}
