import { describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import type { Graph, Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { float32Tensor, int64Tensor } from "../tensor/tensor.js";
import { behindActivation, computedInputs, selectedInputs } from "./selecting.js";

function graphOf(nodes: readonly Node[], outputs: readonly string[] = []): Graph {
  return makeTestModel({
    feeds: { x: someFloats([1, 2, 4, 4]), v: someFloats([1, 2, 4, 4]) },
    nodes,
    outputs,
    initializers: {
      zero: float32Tensor([], [0]),
      half: float32Tensor([], [0.5]),
      pads: int64Tensor([8], [0, 0, 1, 1, 0, 0, 1, 1]),
      k: someFloats([1, 2, 4, 4]),
    },
  }).model.graph;
}

describe("selectedInputs", () => {
  it.each<readonly [about: string, selected: readonly string[] | undefined, node: Node]>([
    ["Reshape", ["x"], makeNode("Reshape", ["x", "pads"], ["y"])],
    ["MaxPool", ["x"], makeNode("MaxPool", ["x"], ["y"], { kernel_shape: [2, 2] })],
    ["MaxPool with indices", undefined, makeNode("MaxPool", ["x"], ["y", "i"], { kernel_shape: [2, 2] })],
    ["Concat", ["x", "v"], makeNode("Concat", ["x", "v"], ["y"], { axis: 1 })],
    ["Pad with zeros", ["x"], makeNode("Pad", ["x", "pads"], ["y"])],
    ["Pad with a zero that is given", ["x"], makeNode("Pad", ["x", "pads", "zero"], ["y"])],
    ["Pad with another number", undefined, makeNode("Pad", ["x", "pads", "half"], ["y"])],
    ["Pad with a number that is computed", undefined, makeNode("Pad", ["x", "pads", "v"], ["y"])],
    ["Pad that reflects", ["x"], makeNode("Pad", ["x", "pads", "half"], ["y"], { mode: "reflect" })],
    ["nearest Resize", ["x"], makeNode("Resize", ["x", "", "half"], ["y"])],
    ["linear Resize", undefined, makeNode("Resize", ["x", "", "half"], ["y"], { mode: "linear" })],
    ["Relu", undefined, makeNode("Relu", ["x"], ["y"])],
  ])("%s: %j", (_about, selected, node) => {
    expect(selectedInputs(node, graphOf([node]))).toEqual(selected);
  });
});

describe("computedInputs", () => {
  const picture = { kind: "tensor", elementType: "float32", shape: [1, 2, 4, 4] } as const;
  it.each<readonly [about: string, computed: readonly string[] | undefined, node: Node]>([
    ["Add", ["x", "v"], makeNode("Add", ["x", "v"], ["y"])],
    ["Mul by a constant", undefined, makeNode("Mul", ["x", "k"], ["y"])],
    ["Sigmoid", ["x"], makeNode("Sigmoid", ["x"], ["y"])],
    ["AveragePool of a picture", ["x"], makeNode("AveragePool", ["x"], ["y"], { kernel_shape: [2, 2] })],
    ["AveragePool of what is unknown", undefined, makeNode("AveragePool", ["v"], ["y"], { kernel_shape: [2, 2] })],
    ["Sub", undefined, makeNode("Sub", ["x", "v"], ["y"])],
  ])("%s: %j", (_about, computed, node) => {
    expect(computedInputs(node, graphOf([node]), new Map([["x", picture]]))).toEqual(computed);
  });
});

describe("behindActivation", () => {
  const relu = makeNode("Relu", ["x"], ["r"]);
  it.each<readonly [about: string, found: string, nodes: readonly Node[], outputs: readonly string[]]>([
    ["is the value behind a Relu", "r", [relu], []],
    ["is the value behind a Clip", "r", [makeNode("Clip", ["x", "zero"], ["r"])], []],
    ["is the value itself behind which stands something else", "x", [makeNode("Tanh", ["x"], ["r"])], []],
    ["is the value itself where others read it", "x", [relu, makeNode("Neg", ["x"], ["n"])], []],
    ["is the value itself where it leaves the graph", "x", [relu], ["x"]],
    ["is the value itself where it is a limit", "x", [makeNode("Clip", ["v", "x"], ["r"])], []],
  ])("%s", (_about, found, nodes, outputs) => {
    expect(behindActivation(graphOf(nodes, outputs), "x")).toBe(found);
  });
});
