import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import { basename } from "node:path";
import type { Node } from "../src/graph/graph.js";
import type { Model } from "../src/graph/model.js";
import { makeNode } from "../src/graph/node.js";
import { encodeModel, joinChunks } from "../src/onnx/model.js";
import { float32Tensor, type Tensor } from "../src/tensor/tensor.js";
import { makeTestModel, someFloats } from "./models.js";

/** Bytes at the beginning of each tensor that are written: the rest of the file is a hole, which takes no disk. */
const writtenBytes = 2 ** 16;

/**
 * A chain of `MatMul` and `Relu` whose weights, float32 `[size, size]`, stand in `PATH.data`: almost all of them zero, so that
 * most of the file need not exist.
 */
export function writeMatMulChain(path: string, layers: number, size: number): void {
  const sizeBytes = 4 * size * size;
  const start = someFloats([writtenBytes / 4], 1).bytes();
  const unread = () => {
    throw new Error("only the place of the weight is written");
  };
  const weight: Tensor = { type: "float32", shape: [size, size], sizeBytes, bytes: unread };
  const nodes = chainOf(layers, (i) => [
    makeNode("MatMul", [i === 0 ? "x" : `r${i - 1}`, `w${i}`], [`m${i}`]),
    makeNode("Relu", [`m${i}`], [`r${i}`]),
  ]);
  const initializers = chainOf(layers, (i) => [[`w${i}`, weight] as const]);
  const model = modelOf(nodes, size, `r${layers - 1}`, initializers);
  const { chunks, externalChunks } = encodeModel(model, { externalLocation: `${basename(path)}.data` });
  writeFileSync(path, joinChunks(chunks));
  const file = openSync(`${path}.data`, "w");
  let position = 0;
  for (const chunk of externalChunks) {
    if (chunk.sizeBytes === sizeBytes) writeSync(file, start, 0, start.length, position);
    position += chunk.sizeBytes;
  }
  ftruncateSync(file, position);
  closeSync(file);
}

/** Networks of some number of nodes, by what there are many of. Small numbers keep what they compute finite. */
export const manyOf: Readonly<Record<string, (count: number) => Model>> = {
  "nodes and initializers": (count) => {
    const nodes = chainOf(count, (i) => [makeNode("Add", [i === 0 ? "x" : `v${i - 1}`, `c${i}`], [`v${i}`])]);
    const constants = nodes.map((_, i) => [`c${i}`, float32Tensor([4], [i, 1, 2, 3])] as const);
    const last = makeNode("MatMul", [`v${count - 1}`, "w"], ["y"]);
    return modelOf([...nodes, last], 4, "y", [...constants, ["w", someFloats([4, 4])]]);
  },
  layers: (count) => {
    const nodes = chainOf(count, (i) => [
      makeNode("MatMul", [i === 0 ? "x" : `t${i - 1}`, `w${i}`], [`m${i}`]),
      makeNode("Tanh", [`m${i}`], [`t${i}`]),
    ]);
    const initializers = chainOf(count, (i) => [[`w${i}`, someFloats([4, 4], i + 1)] as const]);
    return modelOf(nodes, 4, `t${count - 1}`, initializers);
  },
  "readers of a value": (count) => {
    const readers = chainOf(count, (i) => [makeNode(i % 2 ? "Relu" : "Neg", ["h"], [`v${i}`])]);
    const joined = makeNode(
      "Sum",
      readers.map((node) => node.outputs[0]),
      ["y"],
    );
    const first = makeNode("MatMul", ["x", "w"], ["h"]);
    return modelOf([first, ...readers, joined], 4, "y", [["w", someFloats([4, 4])]]);
  },
  "readers of a weight": (count) => {
    const nodes = chainOf(count, (i) => [
      makeNode("MatMul", [i === 0 ? "x" : `t${i - 1}`, "w"], [`m${i}`]),
      makeNode("Tanh", [`m${i}`], [`t${i}`]),
    ]);
    return modelOf(nodes, 4, `t${count - 1}`, [["w", someFloats([4, 4])]]);
  },
};

function chainOf<Item>(length: number, link: (i: number) => readonly Item[]): readonly Item[] {
  return Array.from({ length }, (_, i) => link(i)).flat();
}

/** @param size of the last axis of the input, x */
function modelOf(
  nodes: readonly Node[],
  size: number,
  output: string,
  initializers: readonly (readonly [string, Tensor])[],
): Model {
  return makeTestModel({
    feeds: { x: someFloats([1, size]) },
    shapes: { x: ["batch", size] },
    nodes,
    outputs: [output],
    initializers: Object.fromEntries(initializers),
  }).model;
}
