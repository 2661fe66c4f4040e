import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, makeTestModel, runModel, someFloats, type TestModelParts } from "../../test/models.js";
import { normalize, statistics } from "../../test/normalization.js";
import { buildGraph } from "../graph/graph.js";
import { withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, floatTensor, type Tensor } from "../tensor/tensor.js";
import { foldBatchNormalization } from "./fold-batch-normalization.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const x = someFloats([2, 4, 5, 5]);
const rows = someFloats([3, 4], 2);
const float = (value: number) => ({ kind: "float", value }) as const;
const conv = makeNode("Conv", ["x", "w"], ["c"], { pads: [1, 1, 1, 1] }, "conv");
const biased = makeNode("Conv", ["x", "w", "b"], ["c"], {}, "conv");
const w = someFloats([6, 4, 3, 3], 3);
const b = someFloats([6], 4);
const perChannel = someFloats([6, 1, 1], 5);

describe("foldBatchNormalization", () => {
  it("keeps the names of the layer, of its constants and of what comes out", async () => {
    const { model } = makeTestModel({
      feeds: { x },
      nodes: [biased, normalize("c", "n"), makeNode("Relu", ["n"], ["y"])],
      outputs: ["y"],
      initializers: { w, b, ...statistics(6) },
    });
    const result = await foldBatchNormalization.run(model, { engine });
    const { graph } = result.model;
    expect(result.changed).toEqual(["bn_n: BatchNormalization went into Conv conv"]);
    expect(graph.producer("n")?.name).toBe("conv");
    expect([...graph.initializers.keys()]).toEqual(["w", "b"]);
  });

  it("copies a weight that another layer reads", async () => {
    const { model, feeds } = makeTestModel({
      feeds: { x },
      nodes: [
        conv,
        normalize("c", "n"),
        makeNode("Conv", ["x", "w"], ["d"], { pads: [1, 1, 1, 1] }),
        makeNode("Add", ["n", "d"], ["y"]),
      ],
      outputs: ["y"],
      initializers: { w, ...statistics(6) },
    });
    const folded = (await foldBatchNormalization.run(model, { engine })).model;
    expect(folded.graph.nodes.map((node) => node.opType)).toEqual(["Conv", "Conv", "Add"]);
    expect(folded.graph.constant("w")).toBe(w);
    expect(largestDifference(await runModel(engine, model, feeds), await runModel(engine, folded, feeds))).toBeLessThan(
      1e-5,
    );
  });

  it("keeps the type of float16 weights", async () => {
    const half = (tensor: Tensor) => floatTensor("float16", tensor.shape, float32Values(tensor));
    const { model } = makeTestModel({
      feeds: { x: half(x) },
      nodes: [conv, normalize("c", "y")],
      outputs: ["y"],
      initializers: { w: half(w), ...statistics(6) },
    });
    const { graph } = (await foldBatchNormalization.run(model, { engine })).model;
    expect(graph.nodes).toHaveLength(1);
    expect([...graph.initializers.values()].map((tensor) => tensor.type)).toEqual(["float16", "float16"]);
  });

  it("leaves arithmetic that would cost a second weight, and a MatMul's own bias", async () => {
    const shared = makeTestModel({
      feeds: { x },
      nodes: [conv, makeNode("Mul", ["c", "k"], ["n"]), makeNode("Conv", ["x", "w"], ["z"])],
      outputs: ["n", "z"],
      initializers: { w, k: perChannel },
    }).model;
    expect((await foldBatchNormalization.run(shared, { engine })).model).toBe(shared);
    const linear = makeTestModel({
      feeds: { x: rows },
      nodes: [makeNode("MatMul", ["x", "w"], ["m"]), makeNode("Add", ["m", "b"], ["y"])],
      outputs: ["y"],
      initializers: { w: someFloats([4, 6]), b },
    }).model;
    expect((await foldBatchNormalization.run(linear, { engine })).model).toBe(linear);
  });

  const unfoldable: readonly (Omit<TestModelParts, "outputs"> & {
    readonly about: string;
    readonly reason: RegExp;
    readonly outputs?: readonly string[];
  })[] = [
    {
      about: "a value that leaves the graph",
      feeds: { x },
      nodes: [conv, normalize("c", "y")],
      outputs: ["y", "c"],
      reason: /other readers/,
    },
    {
      about: "a value with two readers",
      feeds: { x },
      nodes: [conv, normalize("c", "n"), makeNode("Add", ["n", "c"], ["y"])],
      reason: /other readers/,
    },
    {
      about: "an operator in between",
      feeds: { x },
      nodes: [conv, makeNode("Relu", ["c"], ["r"]), normalize("r", "y")],
      reason: /behind Relu/,
    },
    { about: "training", feeds: { x }, nodes: [conv, normalize("c", "y", { training_mode: 1 })], reason: /training/ },
    {
      about: "statistics given out",
      opset: 9,
      feeds: { x },
      nodes: [conv, { ...normalize("c", "y"), outputs: ["y", "m2"] }],
      reason: /statistics/,
    },
    {
      about: "parameters that are fed",
      feeds: { x, gain: someFloats([6]) },
      nodes: [conv, normalize("c", "y")],
      reason: /parameters are not constant/,
    },
    {
      about: "a weight that is fed",
      feeds: { x, w },
      nodes: [conv, normalize("c", "y")],
      reason: /weight is not constant/,
    },
    {
      about: "padding behind it",
      feeds: { x: someFloats([1, 6, 5, 5]) },
      nodes: [normalize("x", "n"), makeNode("Conv", ["n", "v"], ["y"], { pads: [1, 1, 1, 1] })],
      initializers: { v: someFloats([2, 6, 3, 3]) },
      reason: /pads/,
    },
    {
      about: "no finite result",
      feeds: { x },
      nodes: [conv, normalize("c", "y", { epsilon: float(0) })],
      initializers: { variance: float32Tensor([6], [0, 0, 0, 0, 0, 0]) },
      reason: /not be finite/,
    },
  ];
  it.each(unfoldable)("leaves the node and says why: $about", async ({ reason, ...given }) => {
    const known: Readonly<Record<string, Tensor>> = { w, ...statistics(6), ...given.initializers };
    const initializers = Object.fromEntries(Object.entries(known).filter(([name]) => !(name in given.feeds)));
    const { model } = makeTestModel({ outputs: ["y"], ...given, initializers });
    const result = await foldBatchNormalization.run(model, { engine });
    expect(result.model).toBe(model);
    expect(result.skipped).toEqual([expect.objectContaining({ reason: expect.stringMatching(reason) })]);
  });

  it("does not take a default that callers may override for a constant", async () => {
    const { model } = makeTestModel({
      feeds: { x },
      nodes: [conv, normalize("c", "y")],
      outputs: ["y"],
      initializers: { w, ...statistics(6) },
    });
    const listed = { name: "w", type: { kind: "tensor", elementType: "float32", shape: [6, 4, 3, 3] } } as const;
    const open = withGraph(model, buildGraph({ ...model.graph, inputs: [...model.graph.inputs, listed] }));
    expect((await foldBatchNormalization.run(open, { engine })).model).toBe(open);
  });
});
