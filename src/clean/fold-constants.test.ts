import { afterAll, describe, expect, it } from "vitest";
import {
  largestDifference,
  makeBody,
  makeIf,
  makeTestModel,
  refusing,
  runModel,
  someFloats,
  yes,
} from "../../test/models.js";
import type { Node } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { encodeModel, joinChunks, readModel } from "../onnx/model.js";
import {
  float32Tensor,
  float32Values,
  floatTensor,
  int64Tensor,
  integerValues,
  uint8Tensor,
} from "../tensor/tensor.js";
import { foldConstants } from "./fold-constants.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = someFloats([2, 3]);
const kept = (nodes: readonly Node[]) => nodes.map((node) => node.opType).join(" ");

describe("foldConstants", () => {
  it("makes every form of Constant an initializer, under the same name", async () => {
    const nodes = [
      makeNode("Constant", [], ["t"], { value: float32Tensor([2, 1], [1, 2]) }),
      makeNode("Constant", [], ["f"], { value_float: { kind: "float", value: 0.5 } }),
      makeNode("Constant", [], ["fs"], { value_floats: { kind: "floats", value: [1, 2, 3] } }),
      makeNode("Constant", [], ["i"], { value_int: 2 ** 63 }),
      makeNode("Constant", [], ["is"], { value_ints: [3, 2] }),
      makeNode("Sum", ["x", "t", "f", "fs"], ["s"]),
      makeNode("Reshape", ["s", "is"], ["y"]),
      makeNode("Add", ["i", "i"], ["z"]),
    ];
    const { model, feeds } = makeTestModel({ feeds: { x }, nodes, outputs: ["y", "z"] });
    const { graph } = (await foldConstants.run(model, { engine })).model;
    expect(kept(graph.nodes)).toBe("Sum Reshape Add");
    expect(graph.constant("f")?.shape).toEqual([]);
    expect(integerValues(graph.constant("is")!)).toEqual([3, 2]);
    const after = await runModel(engine, { ...model, graph }, feeds);
    expect(largestDifference(await runModel(engine, model, feeds), after)).toBe(0);
  });

  it("leaves strings, and constants that leave the graph", async () => {
    const nodes = [
      makeNode("Constant", [], ["y"], { value_int: 1 }),
      makeNode("Constant", [], ["s"], { value_string: "text" }),
      makeNode("Equal", ["s", "s"], ["e"]),
    ];
    const { model } = makeTestModel({ opset: 19, irVersion: 9, feeds: { x }, nodes, outputs: ["y", "e"] });
    expect((await foldConstants.run(model, { engine })).model).toBe(model);
  });

  it("computes all that depends on constants alone, in one session", async () => {
    const nodes = [
      makeNode("Transpose", ["w"], ["t"]),
      makeNode("Cast", ["t"], ["d"], { to: 11 }),
      makeNode("Cast", ["d"], ["u"], { to: 1 }),
      makeNode("Split", ["u"], ["a", "b"], { axis: 1 }),
      makeNode("MatMul", ["x", "a"], ["m"]),
      makeNode("MatMul", ["x", "b"], ["n"]),
      makeNode("Add", ["m", "n"], ["y"]),
    ];
    const { model, feeds } = makeTestModel({
      feeds: { x },
      nodes,
      outputs: ["y"],
      initializers: { w: someFloats([4, 3], 2) },
    });
    const counting = refusing(engine);
    const result = await foldConstants.run(model, { engine: counting });
    expect(kept(result.model.graph.nodes)).toBe("MatMul MatMul Add");
    expect([...result.model.graph.initializers.keys()]).toEqual(["a", "b"]);
    expect(counting.opened).toBe(1);
    expect(largestDifference(await runModel(engine, model, feeds), await runModel(engine, result.model, feeds))).toBe(
      0,
    );
    expect((await foldConstants.run(result.model, { engine })).model).toBe(result.model);
  });

  it("computes what bodies read", async () => {
    const body = makeBody(["b"], [makeNode("Add", ["x", "n"], ["b"])]);
    const other = makeBody(["e"], [makeNode("Relu", ["x"], ["e"])]);
    const nodes = [makeNode("Neg", ["w"], ["n"]), makeIf("y", body, other)];
    const { model, feeds } = makeTestModel({ feeds: { x, c: yes }, nodes, outputs: ["y"], initializers: { w: x } });
    const folded = (await foldConstants.run(model, { engine })).model;
    expect(kept(folded.graph.nodes)).toBe("If");
    expect(folded.graph.constant("n")).toBeDefined();
    expect(largestDifference(await runModel(engine, model, feeds), await runModel(engine, folded, feeds))).toBe(0);
  });

  const untouched: readonly (readonly [about: string, nodes: readonly Node[]])[] = [
    ["random numbers", [makeNode("RandomNormalLike", ["w"], ["r"]), makeNode("Add", ["x", "r"], ["y"])]],
    [
      "other domains",
      [{ ...makeNode("Neg", ["w"], ["r"]), domain: "com.example" }, makeNode("Add", ["x", "r"], ["y"])],
    ],
    ["graph outputs", [makeNode("Neg", ["w"], ["y"])]],
    [
      "weights stored small",
      [
        makeNode("BitShift", ["q", "one"], ["s"], { direction: "RIGHT" }),
        makeNode("DequantizeLinear", ["s", "scale"], ["d"]),
        makeNode("Mul", ["x", "d"], ["y"]),
      ],
    ],
    [
      "nodes with bodies",
      [makeIf("y", makeBody(["a"], [makeNode("Neg", ["w"], ["a"])]), makeBody(["b"], [makeNode("Neg", ["w"], ["b"])]))],
    ],
  ];
  it.each(untouched)("leaves %s", async (_about, nodes) => {
    const { model } = makeTestModel({
      feeds: { x },
      nodes,
      outputs: ["y"],
      initializers: {
        w: x,
        c: yes,
        q: uint8Tensor([2, 3], [1, 2, 3, 4, 5, 6]),
        one: uint8Tensor([1], [1]),
        scale: float32Tensor([], [0.5]),
      },
    });
    expect((await foldConstants.run(model, { engine })).model).toBe(model);
  });

  it("computes a large weight of a constant that several nodes read, where nothing else is left of it", async () => {
    const nodes = [
      makeNode("ReduceL2", ["v"], ["length"], { axes: [0], keepdims: 1 }),
      makeNode("Div", ["v", "length"], ["direction"]),
      makeNode("Mul", ["direction", "gain"], ["weight"]),
      makeNode("MatMul", ["x", "weight"], ["y"]),
      makeNode("MatMul", ["y", "weight"], ["z"]),
    ];
    const { model, feeds } = makeTestModel({
      feeds: { x: someFloats([2, 64]) },
      nodes,
      outputs: ["z"],
      initializers: { v: someFloats([64, 64], 2), gain: someFloats([64], 3) },
    });
    const result = await foldConstants.run(model, { engine });
    expect([...result.model.graph.initializers.keys()]).toEqual(["weight"]);
    expect(kept(result.model.graph.nodes)).toBe("MatMul MatMul");
    const after = await runModel(engine, result.model, feeds);
    expect(largestDifference(await runModel(engine, model, feeds), after)).toBeLessThan(1e-6);
  });

  it("keeps nodes that make much out of little, and says so", async () => {
    const nodes = [
      makeNode("ConstantOfShape", ["shape"], ["big"]),
      makeNode("Add", ["big", "one"], ["bigger"]),
      makeNode("Mul", ["x", "bigger"], ["p"]),
      makeNode("ReduceSum", ["bigger"], ["sum"], { keepdims: 0 }),
      makeNode("Add", ["p", "sum"], ["y"]),
    ];
    const { model, feeds } = makeTestModel({
      feeds: { x: float32Tensor([1, 1], [2]) },
      nodes,
      outputs: ["y"],
      initializers: { shape: int64Tensor([2], [200, 200]), one: float32Tensor([], [1]) },
    });
    const result = await foldConstants.run(model, { engine });
    expect(kept(result.model.graph.nodes)).toBe("ConstantOfShape Add Mul Add");
    expect(result.skipped.map((skipped) => skipped.node)).toEqual(["bigger", "big"]);
    expect(largestDifference(await runModel(engine, model, feeds), await runModel(engine, result.model, feeds))).toBe(
      0,
    );
  });

  it("keeps a node with all its results where one of them is too large", async () => {
    const nodes = [
      makeNode("TopK", ["w", "k"], ["largest", "places"]),
      makeNode("Neg", ["small"], ["s"]),
      makeNode("Mul", ["x", "largest"], ["y"]),
      makeNode("Sum", ["x", "s"], ["z"]),
      makeNode("Mul", ["i", "places"], ["p"]),
    ];
    const { model, feeds } = makeTestModel({
      feeds: { x: floatTensor("float16", [1], [2]), i: int64Tensor([1], [3]) },
      nodes,
      outputs: ["y", "z", "p"],
      initializers: {
        w: floatTensor("float16", [40_000], float32Values(someFloats([40_000]))),
        k: int64Tensor([1], [40_000]),
        small: floatTensor("float16", [1], [1]),
      },
    });
    const result = await foldConstants.run(model, { engine });
    expect(kept(result.model.graph.nodes)).toBe("TopK Mul Sum Mul");
    expect(largestDifference(await runModel(engine, model, feeds), await runModel(engine, result.model, feeds))).toBe(
      0,
    );
  });

  it("computes the rest where the runtime refuses a node", async () => {
    const nodes = [
      makeNode("Neg", ["w"], ["a"]),
      makeNode("Sinh", ["a"], ["b"]),
      makeNode("Abs", ["w"], ["c"]),
      makeNode("Sqrt", ["c"], ["d"]),
      makeNode("Sum", ["x", "b", "d"], ["y"]),
    ];
    const { model } = makeTestModel({ feeds: { x }, nodes, outputs: ["y"], initializers: { w: x } });
    const result = await foldConstants.run(model, { engine: refusing(engine, "Sinh") });
    expect(kept(result.model.graph.nodes)).toBe("Sinh Sum");
    expect(result.skipped).toEqual([{ node: "b", reason: expect.stringContaining("no such operator") }]);
  });

  it("leaves what the runtime cannot hand out", async () => {
    const nodes = [
      makeNode("Cast", ["w"], ["h"], { to: 16 }),
      makeNode("Cast", ["h"], ["f"], { to: 1 }),
      makeNode("Shape", ["h"], ["s"]),
      makeNode("Reshape", ["x", "s"], ["p"]),
      makeNode("CastLike", ["p", "h"], ["l"]),
      makeNode("Cast", ["l"], ["c"], { to: 1 }),
      makeNode("Add", ["c", "f"], ["y"]),
    ];
    const { model } = makeTestModel({ feeds: { x }, nodes, outputs: ["y"], initializers: { w: x } });
    const result = await foldConstants.run(model, { engine });
    expect(kept(result.model.graph.nodes)).toBe("Cast Reshape CastLike Cast Add");
    expect(result.skipped).toEqual([{ node: "h", reason: expect.stringMatching(/hand out|data type/) }]);
  });

  it("gives up in time on a model that the runtime does not take at all", async () => {
    const nodes = [
      ...Array.from({ length: 100 }, (_, i) => makeNode("Neg", [i === 0 ? "w" : `v${i - 1}`], [`v${i}`])),
      makeNode("Sum", ["x", ...Array.from({ length: 100 }, (_, i) => `v${i}`)], ["y"]),
    ];
    const { model } = makeTestModel({ feeds: { x }, nodes, outputs: ["y"], initializers: { w: x } });
    const counting = refusing(engine, "Neg");
    const result = await foldConstants.run(model, { engine: counting });
    expect(result.model).toBe(model);
    expect(counting.opened).toBeLessThan(100);
  });

  it("keeps what it computed only of nodes that it does not give up when attempts run out", async () => {
    const nodes = [
      makeNode("Neg", ["other"], ["n"]),
      makeNode("Split", ["w"], ["good", "rest"], { axis: 0 }),
      ...Array.from({ length: 100 }, (_, i) => makeNode("Sinh", [i === 0 ? "rest" : `v${i - 1}`], [`v${i}`])),
      makeNode("Sum", ["x", "good", "n", ...Array.from({ length: 100 }, (_, i) => `v${i}`)], ["y"]),
    ];
    const initializers = { w: someFloats([2, 3], 2), other: someFloats([1, 3], 3) };
    const { model } = makeTestModel({ feeds: { x }, nodes, outputs: ["y"], initializers });
    const result = await foldConstants.run(model, { engine: refusing(engine, "Sinh") });
    expect(result.model.graph.producer("good")?.opType).toBe("Split");
    expect(result.model.graph.constant("n")).toBeDefined();
  });

  it("writes constants of a file under their new name", async () => {
    const nodes = [makeNode("Constant", [], ["k"], { value: x }), makeNode("Add", ["x", "k"], ["y"])];
    const { model } = makeTestModel({ feeds: { x }, nodes, outputs: ["y"] });
    const reread = () => readModel(joinChunks(encodeModel(model).chunks));
    const folded = (await foldConstants.run(reread(), { engine })).model;
    const written = readModel(joinChunks(encodeModel(folded).chunks));
    expect(written.graph.constant("k")?.bytes()).toEqual(x.bytes());
  });
});
