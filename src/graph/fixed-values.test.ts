import { expect, it } from "vitest";
import { makeBody, makeIf, makeTestModel, someFloats, yes } from "../../test/models.js";
import { float32Tensor, int64Tensor } from "../tensor/tensor.js";
import { fixedValues } from "./fixed-values.js";
import { makeNode } from "./node.js";

it("values are fixed that the standard's operators compute from constants alone, unless by chance", () => {
  const body = makeBody(["b"], [makeNode("Neg", ["w"], ["b"])]);
  const { graph } = makeTestModel({
    feeds: { x: someFloats([2]), open: someFloats([2]) },
    nodes: [
      makeNode("Constant", [], ["constant"], { value: float32Tensor([], [1]) }),
      makeNode("Split", ["w", "sizes"], ["first", "second"]),
      makeNode("Clip", ["first", "", "constant"], ["clipped"]),
      makeNode("TopK", ["w", "sizes"], ["", "places"]),
      makeNode("RandomNormalLike", ["w"], ["drawn"]),
      makeNode("Neg", ["drawn"], ["of drawn"]),
      { ...makeNode("Neg", ["w"], ["of another domain"]), domain: "com.example" },
      makeIf("of a body", body, body),
      makeNode("Neg", ["open"], ["of a default"]),
      makeNode("Add", ["w", "x"], ["of an input"]),
    ],
    initializers: { w: someFloats([2]), sizes: int64Tensor([2], [1, 1]), c: yes, open: someFloats([2]) },
    outputs: [],
  }).model;
  expect([...fixedValues(graph)]).toEqual(["constant", "first", "second", "clipped", "places"]);
});
