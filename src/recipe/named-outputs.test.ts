import { describe, expect, it } from "vitest";
import { makeTestModel } from "../../test/models.js";
import { compensateModel } from "../compensation.js";
import { samplesOf } from "../data/samples-of.js";
import type { Engine } from "../engine/engine.js";
import { makeNode } from "../graph/node.js";
import { planQuantization } from "../planning.js";
import { float32Tensor } from "../tensor/tensor.js";
import { refuseUnknownOutputs } from "./named-outputs.js";
import { parseRecipe } from "./recipe.js";

const { model } = makeTestModel({
  feeds: { x: float32Tensor([1, 2], [1, 2]) },
  nodes: [makeNode("MatMul", ["x", "w"], ["y"]), makeNode("Relu", ["y"], ["z"])],
  outputs: ["y", "z"],
  initializers: { w: float32Tensor([2, 2], [1, 2, 3, 4]) },
});

function stepsWith(output: string) {
  return parseRecipe({ steps: ["bc", { use: "cat", output }] }).steps;
}

const refusal = {
  code: "recipe/invalid",
  place: { field: "steps[1].output" },
  message: '"x" is no output of the model: there are y, z',
};

describe("refuseUnknownOutputs", () => {
  it("names the option with an output that the model does not have", () => {
    expect(() => refuseUnknownOutputs(stepsWith("x"), model.graph)).toThrow(expect.objectContaining(refusal));
  });

  it.each(["", "y", "z"])("takes none and those that there are: %j", (output) => {
    expect(() => refuseUnknownOutputs(stepsWith(output), model.graph)).not.toThrow();
  });

  it("comes before anything runs", async () => {
    const open = () => Promise.reject(new Error("a network was opened"));
    const engine: Engine = { name: "none", open, close: async () => {} } as unknown as Engine;
    const steps = stepsWith("x");
    const recipe = parseRecipe({ steps: [...steps] });
    await expect(planQuantization({ model, recipe, engine })).rejects.toMatchObject(refusal);
    const samples = samplesOf(model, [{ x: float32Tensor([1, 2], [1, 2]) }]);
    const task = { float: model, quantized: model, steps, samples, sampleCount: 1, seed: 0, engine };
    await expect(compensateModel(task)).rejects.toMatchObject(refusal);
  });
});
