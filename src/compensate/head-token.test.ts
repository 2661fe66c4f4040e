import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import type { Section } from "../blocks/sections.js";
import { inferValueTypes } from "../engine/infer-types.js";
import type { Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { int64Tensor, type Tensor } from "../tensor/tensor.js";
import { findHeadToken } from "./head-token.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const first = int64Tensor([], [0]);

/** Two residual layers on four tokens of two channels, `m…` and `s…`, a Relu `r`, and what is given behind. */
async function tokenOf(head: readonly Node[], outputs: readonly string[], place: Tensor = first) {
  const { model } = makeTestModel({
    feeds: { x: someFloats([2, 4, 2]), o: someFloats([2, 4, 2], 4) },
    shapes: { x: ["n", 4, 2], o: ["n", 4, 2] },
    nodes: [
      makeNode("MatMul", ["x", "w"], ["m0"]),
      makeNode("Add", ["m0", "x"], ["s0"]),
      makeNode("Transpose", ["s0"], ["turned"], { perm: [1, 0, 2] }),
      makeNode("MatMul", ["turned", "w"], ["m1"]),
      makeNode("Transpose", ["m1"], ["back"], { perm: [1, 0, 2] }),
      makeNode("Add", ["back", "s0"], ["s1"]),
      makeNode("Relu", ["s1"], ["r"]),
      ...head,
    ],
    outputs,
    initializers: {
      w: someFloats([2, 2], 2),
      v: someFloats([2, 3], 3),
      place,
      second: int64Tensor([], [1]),
      front: int64Tensor([1], [0]),
      end: int64Tensor([1], [2]),
      axis: int64Tensor([1], [1]),
    },
  });
  const types = await inferValueTypes(engine, model);
  const last: Section = { label: "", entry: "s0", exit: "s1", nodes: [], sides: [] };
  return findHeadToken(model.graph, types, [last]);
}

const pick = (axis = 1) => makeNode("Gather", ["r", "place"], ["picked"], { axis });
const product = makeNode("MatMul", ["picked", "v"], ["y"]);

describe("findHeadToken", () => {
  it("finds the one that a Gather picks", async () => {
    expect((await tokenOf([pick(), product], ["y"]))?.index).toBe(0);
    expect((await tokenOf([pick(-2), product], ["y"], int64Tensor([1], [2])))?.index).toBe(2);
    expect((await tokenOf([pick(), product], ["y"], int64Tensor([], [-1])))?.index).toBe(3);
  });

  it("finds none where outputs see more than one", async () => {
    expect(await tokenOf([pick(), product], ["y", "s1"])).toBeUndefined();
    expect(await tokenOf([makeNode("MatMul", ["r", "v"], ["y"])], ["y"])).toBeUndefined();
    expect(await tokenOf([pick(), product], ["y"], int64Tensor([2], [0, 1]))).toBeUndefined();
    const both = [
      pick(),
      makeNode("Gather", ["r", "second"], ["other"], { axis: 1 }),
      makeNode("Add", ["picked", "other"], ["sum"]),
      makeNode("MatMul", ["sum", "v"], ["y"]),
    ];
    expect(await tokenOf(both, ["y"])).toBeUndefined();
  });

  it("finds none that a Gather takes from another axis, or a Slice with others", async () => {
    expect(await tokenOf([pick(2), makeNode("Relu", ["picked"], ["y"])], ["y"])).toBeUndefined();
    const slice = makeNode("Slice", ["r", "front", "end", "axis"], ["picked"]);
    expect(await tokenOf([slice, product], ["y"])).toBeUndefined();
  });

  it("knows it among the same tokens in front of it, and among no others", async () => {
    const token = await tokenOf([pick(), product], ["y"]);
    expect(["m0", "s0", "back", "s1", "r"].map((value) => token?.isAmong(value))).toEqual(new Array(5).fill(true));
    // Time-major, picked already, and not in front of it.
    expect(["m1", "turned", "picked", "y"].map((value) => token?.isAmong(value))).toEqual(new Array(4).fill(false));
    const beside = [pick(), product, makeNode("MatMul", ["o", "w"], ["z"])];
    expect((await tokenOf(beside, ["y", "z"]))?.isAmong("z")).toBe(false);
  });
});
