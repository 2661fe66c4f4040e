import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeBody, makeIf, makeTestModel, runModel, someFloats, yes } from "../../../test/models.js";
import { buildGraph } from "../../graph/graph.js";
import { type Model, withGraph } from "../../graph/model.js";
import { makeNode } from "../../graph/node.js";
import { createRuntimeEngine } from "../../node/runtime-engine.js";
import { floatTensor } from "../../tensor/tensor.js";
import { raiseOpset } from "./raise-opset.js";
import { irVersionFor } from "./versions.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = someFloats([2, 3]);
const softmax = (opset: number, irVersion = 6): Model =>
  makeTestModel({ opset, irVersion, feeds: { x }, nodes: [makeNode("Softmax", ["x"], ["y"])], outputs: ["y"] }).model;

describe("raiseOpset", () => {
  it("gives back a model that is new enough", () => {
    const model = softmax(13);
    expect(raiseOpset(model, 13)).toBe(model);
    expect(raiseOpset(model, 11)).toBe(model);
  });

  it("keeps nodes that mean the same", () => {
    const { model } = makeTestModel({
      opset: 11,
      feeds: { x },
      nodes: [makeNode("Relu", ["x"], ["y"])],
      outputs: ["y"],
    });
    expect(raiseOpset(model, 25).graph).toBe(model.graph);
  });

  it.each([1, 6])("refuses a model of operator set %i", (opset) => {
    expect(() => raiseOpset(softmax(opset), 13)).toThrow(expect.objectContaining({ code: "onnx/unsupported" }));
  });

  it.each([11, 99])("refuses %i as a target", (target) => {
    expect(() => raiseOpset(softmax(10), target)).toThrow(expect.objectContaining({ code: "onnx/unsupported" }));
  });

  it("names the node it cannot convert", () => {
    const nodes = [makeNode("Dropout", ["x"], ["y", "mask"], {}, "drop")];
    const { model } = makeTestModel({ opset: 10, feeds: { x }, nodes, outputs: ["y", "mask"] });
    expect(() => raiseOpset(model, 13)).toThrow(expect.objectContaining({ place: { field: "drop" } }));
  });

  it("raises the version of the file format as far as the operators need it", () => {
    expect([7, 9, 13, 15, 21, 25].map(irVersionFor)).toEqual([3, 4, 7, 8, 10, 13]);
    expect(raiseOpset(softmax(11, 6), 21).irVersion).toBe(10);
    expect(raiseOpset(softmax(11, 9), 13).irVersion).toBe(9);
  });

  it("adds the standard's operators to a model that does not use them", () => {
    const nodes = [{ ...makeNode("Softmax", ["x"], ["y"]), domain: "com.example" }];
    const { model } = makeTestModel({ feeds: { x }, nodes, outputs: ["y"] });
    const foreign = { ...model, opsets: new Map([["com.example", 1]]) };
    const raised = raiseOpset(foreign, 21);
    expect(raised.graph).toBe(foreign.graph);
    expect([...raised.opsets]).toEqual([
      ["com.example", 1],
      ["", 21],
    ]);
  });

  it("leaves other domains' operators of the same name alone", () => {
    const nodes = [{ ...makeNode("Softmax", ["x"], ["y"]), domain: "com.example" }];
    const { model } = makeTestModel({ opset: 11, feeds: { x }, nodes, outputs: ["y"] });
    expect(raiseOpset(model, 13).graph).toBe(model.graph);
  });

  it("keeps listed initializers constant, which newer formats read as defaults", () => {
    const nodes = [makeNode("Add", ["x", "w"], ["a"]), makeNode("Softmax", ["a"], ["y"])];
    const { model } = makeTestModel({
      opset: 8,
      irVersion: 3,
      feeds: { x },
      nodes,
      outputs: ["y"],
      initializers: { w: x },
    });
    const listed = { name: "w", type: { kind: "tensor", elementType: "float32", shape: [2, 3] } } as const;
    const old = withGraph(model, buildGraph({ ...model.graph, inputs: [...model.graph.inputs, listed] }));
    const raised = raiseOpset(old, 13);
    expect(raised.graph.inputs.map((input) => input.name)).toEqual(["x"]);
    expect(raised.graph.constant("w")).toBeDefined();
  });

  it("gives new constants the type of the data", () => {
    const feeds = { x: floatTensor("float64", [2], [1, 2]) };
    const nodes = [makeNode("Clip", ["x"], ["y"], { min: { kind: "float", value: 0.5 } })];
    const raised = raiseOpset(makeTestModel({ opset: 9, feeds, nodes, outputs: ["y"] }).model, 13);
    expect(raised.graph.constant("y_min")?.type).toBe("float64");
  });

  it("spares nodes where the runtime has said the rank", () => {
    const shapes = { x: undefined };
    const nodes = [makeNode("Softmax", ["x"], ["y"])];
    const { model } = makeTestModel({ opset: 11, shapes, feeds: { x }, nodes, outputs: ["y"] });
    const types = new Map([["x", { kind: "tensor", elementType: "float32", shape: [null, 3] } as const]]);
    expect(raiseOpset(model, 13).graph.nodes).toHaveLength(4);
    expect(raiseOpset(model, 13, types).graph.nodes).toHaveLength(1);
  });

  it("converts bodies, with names that are free everywhere and constants of outer graphs", async () => {
    const inner = makeBody(["i"], [makeNode("Unsqueeze", ["s"], ["i"], { axes: [0] })]);
    const other = makeBody(["j"], [makeNode("Softmax", ["x"], ["j"])]);
    const outer = makeBody(["t"], [makeIf("t", inner, other)]);
    const last = makeBody(["e"], [makeNode("Unsqueeze", ["x"], ["e"], { axes: [1] })]);
    const nodes = [
      makeNode("Softmax", ["x"], ["s"], { axis: 0 }),
      makeNode("Relu", ["x"], ["s_matrix"]),
      makeIf("y", outer, last),
    ];
    const outputs = ["y", "s_matrix"];
    const { model, feeds } = makeTestModel({ opset: 11, irVersion: 6, feeds: { x, c: yes }, nodes, outputs });
    const raised = raiseOpset(model, 21);
    const [before, after] = [await runModel(engine, model, feeds), await runModel(engine, raised, feeds)];
    expect(largestDifference(before, after)).toBeLessThan(1e-6);
  });
});
