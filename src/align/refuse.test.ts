import { describe, expect, it } from "vitest";
import { makeRowNet } from "../../test/peers.js";
import { buildGraph, type Dimension, type ValueType } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { refuseMismatch } from "./refuse.js";

type TensorType = Extract<ValueType, { readonly kind: "tensor" }>;

function taking(shape: readonly Dimension[] | undefined, elementType: TensorType["elementType"] = "float32"): Model {
  const { model } = makeRowNet();
  const inputs = model.graph.inputs.map((input) => ({
    ...input,
    type: { kind: "tensor", elementType, shape } as const,
  }));
  return withGraph(model, buildGraph({ ...model.graph, inputs }));
}

describe("refuseMismatch", () => {
  const float = taking(["batch", 3, 8]);

  it.each<readonly [string, Model, string]>([
    ["size", taking(["batch", 3, 9]), "takes float32[batch,3,9] where the float model takes float32[batch,3,8]"],
    ["rank", taking(["batch", 3]), "takes float32[batch,3] where the float model takes float32[batch,3,8]"],
    ["type", taking(["batch", 3, 8], "int32"), "takes int32[batch,3,8] where the float model takes float32[batch,3,8]"],
  ])("refuses an input of another %s by its name", (_, quantized, message) => {
    const place = { field: "x" };
    expect(() => refuseMismatch(float, quantized)).toThrow(expect.objectContaining({ message, place }));
  });

  it.each<readonly [string, Model]>([
    ["a size", taking([1, 3, null])],
    ["the name of a size", taking(["n", 3, 8])],
    ["the shape", taking(undefined)],
  ])("takes an input that leaves %s open", (_, quantized) => {
    expect(() => refuseMismatch(float, quantized)).not.toThrow();
  });
});
