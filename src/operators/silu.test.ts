import { expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import type { Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { feedsOnlySilu, siluFloor } from "./silu.js";

const sigmoid = makeNode("Sigmoid", ["x"], ["s"]);
const product = makeNode("Mul", ["x", "s"], ["y"]);

it.each<readonly [about: string, expected: boolean, nodes: readonly Node[], outputs: readonly string[]]>([
  ["x · sigmoid(x)", true, [sigmoid, product], ["y"]],
  ["sigmoid(x) · x", true, [sigmoid, makeNode("Mul", ["s", "x"], ["y"])], ["y"]],
  ["a third reader", false, [sigmoid, product, makeNode("Neg", ["x"], ["z"])], ["y", "z"]],
  ["a value that leaves the graph", false, [sigmoid, product], ["y", "x"]],
  ["a sigmoid that leaves the graph", false, [sigmoid, product], ["y", "s"]],
  ["a sigmoid that others read", false, [sigmoid, product, makeNode("Neg", ["s"], ["z"])], ["y", "z"]],
  [
    "the sigmoid of something else",
    false,
    [sigmoid, makeNode("Mul", ["x", "v"], ["y"]), makeNode("Neg", ["s"], ["z"])],
    ["y", "z"],
  ],
  ["a sigmoid alone", false, [sigmoid], ["s"]],
])("knows SiLU from %s: %s", (_about, expected, nodes, outputs) => {
  const { graph } = makeTestModel({ feeds: { x: someFloats([2]), v: someFloats([2]) }, nodes, outputs }).model;
  expect(feedsOnlySilu(graph, "x")).toBe(expected);
});

it("cuts where the function is as good as zero", () => {
  const silu = (x: number) => x / (1 + Math.exp(-x));
  for (let x = siluFloor; x > -40; x -= 0.5) expect(Math.abs(silu(x))).toBeLessThan(0.003);
});
