import { describe, expect, it } from "vitest";
import { makeTestModel, someFloats } from "../../test/models.js";
import { labelOf, makeNode, withInputs } from "./node.js";
import { PatchBatch } from "./patch-batch.js";

/** y = relu(neg(x)), and z = abs(x). */
const { graph } = makeTestModel({
  feeds: { x: someFloats([2]) },
  nodes: [makeNode("Neg", ["x"], ["n"]), makeNode("Relu", ["n"], ["y"]), makeNode("Abs", ["x"], ["z"])],
  outputs: ["y", "z"],
}).model;

/** Puts an Identity in front of the node that computes a value. */
function patchOf(batch: PatchBatch, value: string, added: string) {
  const node = batch.graphFor([value]).producer(value)!;
  const add = [makeNode("Identity", [node.inputs[0]], [added]), withInputs(node, [added])];
  batch.add({ label: added, remove: [node], add });
}

describe("PatchBatch", () => {
  it("keeps patches of different nodes for one application", () => {
    const batch = new PatchBatch(graph, "test");
    patchOf(batch, "y", "a");
    expect(batch.graphFor(["z"])).toBe(graph);
    patchOf(batch, "z", "b");
    expect(batch.finish().nodes.map(labelOf).sort()).toEqual(["a", "b", "n", "y", "z"]);
  });

  it("applies what is there before a node is changed again", () => {
    const batch = new PatchBatch(graph, "test");
    patchOf(batch, "y", "a");
    expect(batch.graphFor(["y"]).producer("y")?.inputs).toEqual(["a"]);
    patchOf(batch, "y", "b");
    const result = batch.finish();
    expect(result.producer("y")?.inputs).toEqual(["b"]);
    expect(result.producer("b")?.inputs).toEqual(["a"]);
    expect(result.producer("a")?.inputs).toEqual(["n"]);
  });

  it("gives back the same graph where there is nothing to do", () => {
    expect(new PatchBatch(graph, "test").finish()).toBe(graph);
  });
});
