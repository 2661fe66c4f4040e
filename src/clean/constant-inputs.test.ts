import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeBody, makeIf, makeTestModel, runModel, someFloats, yes } from "../../test/models.js";
import { buildGraph } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { constantInputs } from "./constant-inputs.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = someFloats([2, 3]);
const feeds = new Map([["x", x]]);

/** y = x + w, where `w` is listed as an input too. */
function listing(irVersion: number): Model {
  const nodes = [makeNode("Add", ["x", "w"], ["y"])];
  const { model } = makeTestModel({ opset: 8, irVersion, feeds: { x }, nodes, outputs: ["y"], initializers: { w: x } });
  const listed = { name: "w", type: { kind: "tensor", elementType: "float32", shape: [2, 3] } } as const;
  return withGraph(model, buildGraph({ ...model.graph, inputs: [...model.graph.inputs, listed] }));
}

describe("constantInputs", () => {
  it("makes listed initializers of old files constant", async () => {
    const old = listing(3);
    const { model, changed, skipped } = await constantInputs.run(old, { engine });
    expect(model.graph.inputs.map((input) => input.name)).toEqual(["x"]);
    expect(model.graph.constant("w")).toBeDefined();
    expect(model.irVersion).toBe(4);
    expect(changed).toEqual(["the file's version 3 became 4", "w is a constant, no input"]);
    expect(skipped).toEqual([]);
    expect(largestDifference(await runModel(engine, old, feeds), await runModel(engine, model, feeds))).toBe(0);
  });

  it("leaves a default that callers may override, and says so", async () => {
    const open = listing(4);
    const { model, skipped } = await constantInputs.run(open, { engine });
    expect(model).toBe(open);
    expect(skipped).toEqual([{ node: "w", reason: expect.stringContaining("override") }]);
  });

  it("reads bodies by the same rule", async () => {
    const plain = makeBody(["b"], [makeNode("Add", ["x", "v"], ["b"])]);
    const body = buildGraph(
      { ...plain, inputs: [{ name: "v", type: { kind: "other" } }], initializers: new Map([["v", x]]) },
      true,
    );
    const nodes = [makeIf("y", body, makeBody(["e"], [makeNode("Relu", ["x"], ["e"])]))];
    const { model: old } = makeTestModel({ opset: 8, irVersion: 3, feeds: { x, c: yes }, nodes, outputs: ["y"] });
    const { model } = await constantInputs.run(old, { engine });
    const branch = model.graph.nodes[0].attributes.get("then_branch");
    expect(branch?.kind === "graph" && branch.value.inputs).toEqual([]);
    expect(branch?.kind === "graph" && branch.value.constant("v")).toBeDefined();
  });
});
