import { describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import type { Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { findFoldable } from "./foldable-nodes.js";

describe("findFoldable", () => {
  const sharings: readonly (readonly [about: string, nodes: readonly Node[]])[] = [
    [
      "turned around and as it is",
      [
        makeNode("Transpose", ["w"], ["t"]),
        makeNode("MatMul", ["x", "w"], ["a"]),
        makeNode("MatMul", ["a", "t"], ["p"]),
      ],
    ],
    [
      "turned around and negated",
      [
        makeNode("Transpose", ["w"], ["t"]),
        makeNode("Neg", ["w"], ["n"]),
        makeNode("MatMul", ["x", "n"], ["a"]),
        makeNode("MatMul", ["a", "t"], ["p"]),
      ],
    ],
    [
      "turned around, and what is made of that",
      [
        makeNode("Transpose", ["w"], ["t"]),
        makeNode("Neg", ["t"], ["n"]),
        makeNode("MatMul", ["x", "w"], ["a"]),
        makeNode("MatMul", ["a", "n"], ["p"]),
      ],
    ],
  ];
  it.each(sharings)("leaves a large constant that would stand there twice: %s", (_about, nodes) => {
    const { model } = makeTestModel({
      feeds: { x: someFloats([2, 64]) },
      nodes,
      outputs: ["p"],
      initializers: { w: someFloats([64, 64], 2) },
    });
    expect([...findFoldable(model)]).toEqual([]);
  });

  it("takes all readers of a large constant that leave one value of it", () => {
    const { model } = makeTestModel({
      feeds: { x: someFloats([2, 64]) },
      nodes: [
        makeNode("ReduceL2", ["w"], ["length"]),
        makeNode("Div", ["w", "length"], ["v"]),
        makeNode("MatMul", ["x", "v"], ["y"]),
      ],
      initializers: { w: someFloats([64, 64], 2) },
      outputs: ["y"],
    });
    expect([...findFoldable(model)].map((node) => node.opType)).toEqual(["ReduceL2", "Div"]);
  });
});
