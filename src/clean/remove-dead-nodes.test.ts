import { describe, expect, it } from "vitest";
import { makeBody, makeIf, makeTestModel, refusing, someFloats, yes } from "../../test/models.js";
import type { Engine } from "../engine/engine.js";
import { makeNode } from "../graph/node.js";
import { removeDeadNodes } from "./remove-dead-nodes.js";

const x = someFloats([2]);
const engine = refusing({} as Engine);

describe("removeDeadNodes", () => {
  it("removes nodes and initializers that no output depends on", async () => {
    const nodes = [makeNode("Neg", ["x"], ["y"]), makeNode("Add", ["x", "w"], ["a"]), makeNode("Relu", ["a"], ["b"])];
    const { model } = makeTestModel({ feeds: { x }, nodes, outputs: ["y"], initializers: { w: x, v: x } });
    const result = await removeDeadNodes.run(model, { engine });
    expect(result.model.graph.nodes.map((node) => node.opType)).toEqual(["Neg"]);
    expect([...result.model.graph.initializers.keys()]).toEqual([]);
    expect(result.changed).toEqual([
      "a: Add that no output depends on was removed",
      "b: Relu that no output depends on was removed",
      "w: initializer that nobody reads was removed",
      "v: initializer that nobody reads was removed",
    ]);
  });

  it("keeps inputs nobody reads, outputs that are constants, and what bodies read", async () => {
    const body = makeBody(["t"], [makeNode("Add", ["n", "w"], ["t"])]);
    const nodes = [makeNode("Neg", ["x"], ["n"]), makeIf("y", body, makeBody(["x"], []))];
    const { model } = makeTestModel({
      feeds: { x, c: yes, unread: x },
      nodes,
      outputs: ["y", "k"],
      initializers: { w: x, k: x },
    });
    expect((await removeDeadNodes.run(model, { engine })).model).toBe(model);
  });
});
