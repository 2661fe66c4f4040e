import { afterAll, describe, expect, it } from "vitest";
import { makeBody, makeIf, makeTestModel, someFloats, yes } from "../../test/models.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { int64Tensor } from "../tensor/tensor.js";
import { inferValueTypes } from "./infer-types.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

describe("inferValueTypes", () => {
  it.each([1, 2, 3, 5])("tells the same of a network in pieces of %i nodes", async (pieceSize) => {
    const { model } = makeTestModel({
      feeds: { x: someFloats([2, 3]), c: yes },
      shapes: { x: ["batch", 3] },
      nodes: [
        makeNode("MatMul", ["x", "w"], ["m"]),
        makeNode("Relu", ["m"], ["r"]),
        makeIf(
          "i",
          makeBody(["a"], [makeNode("Neg", ["r"], ["a"])]),
          makeBody(["b"], [makeNode("Add", ["m", "w"], ["b"])]),
        ),
        makeNode("Cast", ["r"], ["k"], { to: 7 }),
        makeNode("Reshape", ["k", "s"], ["y"]),
        makeNode("Split", ["r"], ["p", "q"], { axis: 1 }),
      ],
      initializers: { w: someFloats([3, 4]), s: int64Tensor([1], [-1]) },
      outputs: ["y", "i"],
    });
    const whole = await inferValueTypes(engine, model);
    const pieces = await inferValueTypes(engine, model, pieceSize);
    // What either branch gives has no shape of its own.
    for (const value of ["x", "w", "m", "r", "k", "y", "p", "q"]) expect(pieces.get(value)).toEqual(whole.get(value));
    expect(pieces.get("i")).toMatchObject({ kind: "tensor", elementType: "float32" });
  });

  it("says so where the runtime does not know an operator, whatever the size", async () => {
    const { model } = makeTestModel({
      feeds: { x: someFloats([2]) },
      nodes: [makeNode("Relu", ["x"], ["r"]), { ...makeNode("Relu", ["r"], ["y"]), domain: "unknown" }],
      outputs: ["y"],
    });
    for (const pieceSize of [1, 10]) {
      const refused = expect.objectContaining({ code: "engine/refused" });
      await expect(inferValueTypes(engine, model, pieceSize)).rejects.toThrow(refused);
    }
  });
});
