import { describe, expect, it } from "vitest";
import { makeBody, makeIf } from "../../test/models.js";
import { makeNode } from "./node.js";
import { valuesBehind } from "./values-behind.js";

describe("valuesBehind", () => {
  it("finds what is computed from a value, through bodies too", () => {
    const nodes = [
      makeNode("Relu", ["x"], ["a"]),
      makeIf("b", makeBody(["n"], [makeNode("Neg", ["a"], ["n"])]), makeBody(["m"], [makeNode("Neg", ["z"], ["m"])])),
      makeNode("Add", ["b", "z"], ["y"]),
      makeNode("Abs", ["z"], ["apart"]),
    ];
    expect([...valuesBehind(nodes, ["a"])]).toEqual(["a", "b", "y"]);
  });

  it("takes outputs and inputs that are left out for nothing", () => {
    const nodes = [makeNode("Split", ["x"], ["", "y"]), makeNode("Clip", ["z", "", "w"], ["apart"])];
    expect(valuesBehind(nodes, ["x"]).has("apart")).toBe(false);
  });
});
