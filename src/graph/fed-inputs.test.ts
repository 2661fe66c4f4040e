import { expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import { fedInputs } from "./fed-inputs.js";
import { makeNode } from "./node.js";

it("an input that is an initializer too need not be fed", () => {
  const { graph } = makeTestModel({
    feeds: { x: someFloats([2]), w: someFloats([2]) },
    nodes: [makeNode("Add", ["x", "w"], ["y"])],
    initializers: { w: someFloats([2]) },
    outputs: ["y"],
  }).model;
  expect(fedInputs(graph)).toEqual([graph.inputs[0]]);
});
