import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, runModel, someFloats } from "../../test/models.js";
import {
  attributeOf,
  attributeType,
  bytes,
  callOf,
  concat,
  float,
  floatValue,
  functionOf,
  graphField,
  initializerOf,
  littleEndian,
  modelOf,
  nodeOf,
  number,
  opset,
  referenceTo,
  tensorOf,
  text,
} from "../../test/wire.js";
import type { Feeds } from "../engine/engine.js";
import { subgraphsOf } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { encodeModel, joinChunks, readModel } from "../onnx/model.js";
import { float32Tensor, float32Values, tensorFromBytes } from "../tensor/tensor.js";
import { inlineFunctions } from "./inline-functions.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = float32Tensor([2], [1, -2]);
const condition = bytes(graphField.input, text(1, "c"), bytes(2, bytes(1, number(1, 9))));
const around = concat(text(2, "main"), floatValue(graphField.input, "x"));

/** A model of x, perhaps of c, and functions. */
function build(graph: readonly Uint8Array[], outputs: readonly string[], ...functions: readonly Uint8Array[]): Model {
  const values = outputs.map((name) => bytes(graphField.output, text(1, name)));
  return readModel(modelOf(concat(...graph, around, ...values), opset(1, "local"), ...functions));
}

const all = () => true;

/** As the file says it, written out, and written out and read again. */
async function expectSame(model: Model, feeds: Feeds = new Map([["x", x]])): Promise<Model> {
  const inlined = inlineFunctions(model, all).model;
  expect(inlined.functions.size).toBe(0);
  const again = readModel(joinChunks(encodeModel(inlined).chunks));
  const expected = await runModel(engine, model, feeds);
  for (const candidate of [inlined, again]) {
    expect(largestDifference(expected, await runModel(engine, candidate, feeds))).toBe(0);
  }
  return again;
}

/** y = alpha · a + b, by way of names that the main graph has too. */
const scaled = functionOf("Scaled", {
  inputs: ["a", "b"],
  outputs: ["y"],
  attributes: ["alpha"],
  nodes: [
    nodeOf("Constant", [], ["x"], referenceTo("alpha", "value_float", attributeType.float)),
    nodeOf("Mul", ["a", "x"], ["m"], text(3, "product")),
    nodeOf("Add", ["m", "b"], ["y"]),
  ],
});
const alpha = (value: number) => attributeOf("alpha", attributeType.float, float(2, value));

describe("inlineFunctions", () => {
  it("puts the nodes in the place of the calls, with their attributes and names of their own", async () => {
    const model = build(
      [
        callOf("Scaled", ["x", "x"], ["m"], text(3, "first"), alpha(3)),
        callOf("Scaled", ["m", "x"], ["y"], alpha(0.5)),
      ],
      ["y", "m"],
      scaled,
    );
    const { graph } = await expectSame(model);
    expect(graph.nodes.map((node) => [node.name, node.opType, node.outputs[0]])).toEqual([
      ["first/product", "Mul", "first/m"],
      ["", "Add", "m"],
      ["y/product", "Mul", "y/m"],
      ["", "Add", "y"],
    ]);
    expect([...float32Values((await runModel(engine, model, new Map([["x", x]]))).get("y")!)]).toEqual([3, -6]);
  });

  it("takes a function's default, and the operator's own where nobody gives a value", async () => {
    const leaky = functionOf("Leaky", {
      inputs: ["a"],
      outputs: ["b", "d"],
      attributes: ["other"],
      defaults: [attributeOf("slope", attributeType.float, float(2, 0.25))],
      nodes: [
        nodeOf("LeakyRelu", ["a"], ["b"], referenceTo("slope", "alpha", attributeType.float)),
        nodeOf("LeakyRelu", ["a"], ["d"], referenceTo("other", "alpha", attributeType.float)),
      ],
    });
    const model = build([callOf("Leaky", ["x"], ["y", "z"])], ["y", "z"], leaky);
    await expectSame(model);
    const outputs = await runModel(engine, inlineFunctions(model, all).model, new Map([["x", x]]));
    expect([...outputs.values()].map((tensor) => float32Values(tensor)[1])).toEqual([-0.5, expect.closeTo(-0.02, 6)]);
  });

  it("passes on parameters, values that are asked for twice, and inputs that are not given", async () => {
    const odd = functionOf("Odd", {
      inputs: ["a", "low", "high"],
      outputs: ["a", "b", "b2", "unused"],
      nodes: [
        nodeOf("Clip", ["a", "low", "high"], ["b"]),
        nodeOf("Identity", ["b"], ["b2"]),
        nodeOf("Neg", ["b"], ["unused"]),
      ],
    });
    const zero = initializerOf("zero", 1, [], bytes(9, littleEndian(Float32Array.of(0))));
    const model = build([zero, callOf("Odd", ["x", "", "zero"], ["p", "q", "r"])], ["p", "q", "r"], odd);
    // The runtime takes no function that gives back a parameter.
    const outputs = await runModel(engine, inlineFunctions(model, all).model, new Map([["x", x]]));
    expect([...outputs.values()].map((tensor) => [...float32Values(tensor)])).toEqual([
      [1, -2],
      [0, -2],
      [0, -2],
    ]);
  });

  it("reaches into bodies and into other functions, and hides no outer name", async () => {
    const branch = (opType: string) =>
      bytes(6, nodeOf(opType, ["a"], ["x"]), text(2, "b"), bytes(graphField.output, text(1, "x")));
    const choose = functionOf("Choose", {
      inputs: ["if", "a"],
      outputs: ["y"],
      nodes: [
        callOf("Scaled", ["a", "a"], ["m"], alpha(2)),
        nodeOf(
          "If",
          ["if"],
          ["t"],
          attributeOf("then_branch", attributeType.graph, branch("Neg")),
          attributeOf("else_branch", attributeType.graph, branch("Abs")),
        ),
        nodeOf("Add", ["m", "t"], ["y"]),
      ],
    });
    const calling = (name: string, ...nodes: readonly Uint8Array[]) =>
      bytes(6, ...nodes, text(2, name), bytes(graphField.output, text(1, name)));
    const model = build(
      [
        condition,
        nodeOf("Relu", ["x"], ["r"]),
        nodeOf(
          "If",
          ["c"],
          ["y"],
          attributeOf("then_branch", attributeType.graph, calling("t", callOf("Choose", ["c", "r"], ["t"]))),
          attributeOf("else_branch", attributeType.graph, calling("e", callOf("Choose", ["c", "x"], ["e"]))),
        ),
        callOf("Choose", ["c", "x"], ["z"]),
      ],
      ["y", "z"],
      choose,
      scaled,
    );
    for (const chosen of [0, 1]) {
      const feeds = new Map([
        ["x", x],
        ["c", tensorFromBytes("bool", [], Uint8Array.of(chosen))],
      ]);
      await expectSame(model, feeds);
    }
    const { graph } = inlineFunctions(model, all).model;
    const own = (node: (typeof graph.nodes)[number]) =>
      subgraphsOf(node).flatMap((body) => body.nodes.flatMap((n) => n.outputs));
    const inner = graph.nodes.flatMap(own);
    expect(inner.filter((name) => graph.producer(name) !== undefined || graph.isInput(name))).toEqual([]);
    expect(new Set(inner).size).toBe(inner.length);
  });

  it("keeps a constant once, however often the function is called", async () => {
    const weight = attributeOf(
      "value",
      attributeType.tensor,
      bytes(5, tensorOf("", 1, [2], bytes(9, littleEndian(Float32Array.of(3, 4))))),
    );
    const layer = functionOf("Layer", {
      inputs: ["a"],
      outputs: ["y"],
      nodes: [nodeOf("Constant", [], ["w"], weight), nodeOf("Mul", ["a", "w"], ["y"])],
    });
    const calls = ["x", "a", "b"].map((from, i) => callOf("Layer", [from], [["a", "b", "y"][i]]));
    const { graph } = await expectSame(build(calls, ["y"], layer));
    expect([...graph.initializers.keys()]).toEqual(["a/w"]);
  });

  it("says a function in the model's operator set", async () => {
    const squeeze = functionOf("Squeezed", {
      inputs: ["a"],
      outputs: ["y"],
      attributes: ["axes"],
      opset: 11,
      nodes: [
        nodeOf("Unsqueeze", ["a"], ["u"], referenceTo("axes", "axes", attributeType.ints)),
        nodeOf("Softmax", ["u"], ["y"], attributeOf("axis", attributeType.int, number(3, 1))),
      ],
    });
    const axes = attributeOf("axes", attributeType.ints, number(8, 0));
    const model = build([callOf("Squeezed", ["x"], ["y"], axes)], ["y"], squeeze);
    const { model: inlined } = inlineFunctions(model, all);
    const output = (await runModel(engine, inlined, new Map([["x", x]]))).get("y")!;
    const share = 1 / (1 + Math.exp(-3));
    expect(output.shape).toEqual([1, 2]);
    expect([...float32Values(output)]).toEqual([share, 1 - share].map((value) => expect.closeTo(value, 6)));
  });

  it("raises the model where a function is newer, and leaves a call that it cannot say, with the reason", () => {
    const newer = functionOf("Newer", {
      inputs: ["a"],
      outputs: ["y"],
      opset: 20,
      nodes: [nodeOf("Gelu", ["a"], ["y"])],
    });
    const raised = inlineFunctions(build([callOf("Newer", ["x"], ["y"])], ["y"], newer), all).model;
    expect(raised.opsets.get("")).toBe(20);
    const odd = functionOf("Odd", {
      inputs: ["a"],
      outputs: ["y"],
      opset: 5,
      nodes: [nodeOf("Relu", ["a"], ["y"])],
    });
    const model = build([callOf("Odd", ["x"], ["y"])], ["y"], odd);
    const { model: same, step } = inlineFunctions(model, all);
    expect(same).toBe(model);
    expect(step.skipped).toEqual([{ node: "local::Odd", reason: expect.stringContaining("operator set 5") }]);
  });

  it("writes out only what is asked for, and keeps what is still called", async () => {
    const outer = functionOf("Outer", {
      inputs: ["a"],
      outputs: ["y"],
      nodes: [callOf("Scaled", ["a", "a"], ["y"], alpha(2))],
    });
    const model = build([callOf("Outer", ["x"], ["y"])], ["y"], outer, scaled);
    const first = inlineFunctions(model, ({ name }) => name === "Outer").model;
    expect([...first.functions.keys()]).toEqual(["local::Scaled"]);
    expect(first.graph.nodes.map((node) => node.opType)).toEqual(["Scaled"]);
    const second = inlineFunctions(model, ({ name }) => name === "Scaled").model;
    expect(second).toBe(model);
    const [expected, computed] = [model, first].map((each) => runModel(engine, each, new Map([["x", x]])));
    expect(largestDifference(await expected, await computed)).toBe(0);
    expect(inlineFunctions(model, () => false).model).toBe(model);
  });

  it("takes a call of an overload for that of the function with it", async () => {
    const functions = ["Neg", "Abs"].map((opType) =>
      functionOf("F", { inputs: ["a"], outputs: ["y"], nodes: [nodeOf(opType, ["a"], ["y"])] }, text(13, opType)),
    );
    const model = build([callOf("F", ["x"], ["y"], text(8, "Abs"))], ["y"], ...functions);
    const { graph } = inlineFunctions(model, all).model;
    expect(graph.nodes.map((node) => node.opType)).toEqual(["Abs"]);
  });

  it("works on a network with layers in a function that is called for each of them", async () => {
    const dense = functionOf("Dense", {
      inputs: ["a", "w"],
      outputs: ["y"],
      nodes: [nodeOf("MatMul", ["a", "w"], ["m"]), nodeOf("Relu", ["m"], ["y"])],
    });
    const weights = ["w1", "w2"].map((name, i) =>
      initializerOf(name, 1, [2, 2], bytes(9, littleEndian(float32Values(someFloats([2, 2], i + 1))))),
    );
    const calls = [callOf("Dense", ["x", "w1"], ["h"]), callOf("Dense", ["h", "w2"], ["y"])];
    const again = await expectSame(build([...weights, ...calls], ["y"], dense));
    expect(again.graph.nodes.map((node) => node.inputs)).toEqual([["x", "w1"], ["h/m"], ["h", "w2"], ["y/m"]]);
  });
});
