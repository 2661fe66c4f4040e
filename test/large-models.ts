import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import { basename } from "node:path";
import { buildGraph, type Dimension, type Node } from "../src/graph/graph.js";
import { type Model, makeModel } from "../src/graph/model.js";
import { makeNode } from "../src/graph/node.js";
import { encodeModel, joinChunks } from "../src/onnx/model.js";
import { float32Tensor, type Tensor } from "../src/tensor/tensor.js";
import { someFloats } from "./models.js";

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
  const initializers = new Map(chainOf(layers, (i) => [[`w${i}`, weight] as const]));
  const model = modelOf(nodes, ["batch", size], `r${layers - 1}`, initializers);
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
    const constants = new Map(nodes.map((_, i) => [`c${i}`, float32Tensor([4], [i, 1, 2, 3])]));
    return modelOf(
      [...nodes, makeNode("MatMul", [`v${count - 1}`, "w"], ["y"])],
      ["batch", 4],
      "y",
      new Map([...constants, ["w", someFloats([4, 4])]]),
    );
  },
  layers: (count) => {
    const nodes = chainOf(count, (i) => [
      makeNode("MatMul", [i === 0 ? "x" : `t${i - 1}`, `w${i}`], [`m${i}`]),
      makeNode("Tanh", [`m${i}`], [`t${i}`]),
    ]);
    const initializers = new Map(chainOf(count, (i) => [[`w${i}`, someFloats([4, 4], i + 1)] as const]));
    return modelOf(nodes, ["batch", 4], `t${count - 1}`, initializers);
  },
  "readers of a value": (count) => {
    const readers = chainOf(count, (i) => [makeNode(i % 2 ? "Relu" : "Neg", ["h"], [`v${i}`])]);
    const joined = makeNode(
      "Sum",
      readers.map((node) => node.outputs[0]),
      ["y"],
    );
    const initializers = new Map([["w", someFloats([4, 4])]]);
    return modelOf([makeNode("MatMul", ["x", "w"], ["h"]), ...readers, joined], ["batch", 4], "y", initializers);
  },
  "readers of a weight": (count) => {
    const nodes = chainOf(count, (i) => [
      makeNode("MatMul", [i === 0 ? "x" : `t${i - 1}`, "w"], [`m${i}`]),
      makeNode("Tanh", [`m${i}`], [`t${i}`]),
    ]);
    return modelOf(nodes, ["batch", 4], `t${count - 1}`, new Map([["w", someFloats([4, 4])]]));
  },
};

function chainOf<Item>(length: number, link: (i: number) => readonly Item[]): readonly Item[] {
  return Array.from({ length }, (_, i) => link(i)).flat();
}

function modelOf(
  nodes: readonly Node[],
  shape: readonly Dimension[],
  output: string,
  initializers: ReadonlyMap<string, Tensor>,
): Model {
  const type = { kind: "tensor", elementType: "float32", shape } as const;
  const graph = buildGraph({
    name: "large",
    inputs: [{ name: "x", type }],
    outputs: [{ name: output, type }],
    nodes,
    initializers,
    valueInfo: new Map(),
  });
  return makeModel(graph, { irVersion: 8, opsets: new Map([["", 17]]) });
}
