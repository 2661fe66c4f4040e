import { buildGraph, type Graph } from "../src/graph/graph.js";
import type { Model } from "../src/graph/model.js";
import { makeNode } from "../src/graph/node.js";
import type { ElementType } from "../src/tensor/element-type.js";
import { float32Tensor, int64Tensor } from "../src/tensor/tensor.js";
import { makeTestModel } from "./models.js";

export const x = float32Tensor([2, 3], [1, -2, 3, -4, 5, -6]);

/** r = relu(x), y = r + r, z = -r */
export const small = makeTestModel({
  feeds: { x },
  shapes: { x: ["batch", 3] },
  nodes: [makeNode("Relu", ["x"], ["r"]), makeNode("Add", ["r", "r"], ["y"]), makeNode("Neg", ["r"], ["z"])],
  outputs: ["y", "z"],
}).model;

/** y = x cast to a type given by its number, of which the graph does not say more. */
export function castTo(code: number): Model {
  return makeTestModel({
    opset: 21,
    irVersion: 10,
    feeds: { x },
    nodes: [makeNode("Cast", ["x"], ["y"], { to: code })],
    outputs: ["y"],
  }).model;
}

/** Runs for as long as nobody stops it. */
export function makeEndlessModel(): Model {
  const value = (name: string, elementType: ElementType, shape: readonly number[]) =>
    ({ name, type: { kind: "tensor", elementType, shape } }) as const;
  const body: Graph = buildGraph(
    {
      name: "body",
      inputs: [value("i", "int64", []), value("go", "bool", []), value("v", "float32", [2, 3])],
      outputs: [value("go_on", "bool", []), value("w", "float32", [2, 3])],
      nodes: [makeNode("Identity", ["go"], ["go_on"]), makeNode("Sin", ["v"], ["w"])],
      initializers: new Map(),
      valueInfo: new Map(),
    },
    true,
  );
  return makeTestModel({
    feeds: { x },
    nodes: [makeNode("Loop", ["times", "", "x"], ["y"], { body: { kind: "graph", value: body } })],
    outputs: ["y"],
    initializers: { times: int64Tensor([], [1e15]) },
  }).model;
}
