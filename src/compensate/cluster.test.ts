import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, runModel, someFloats, type TestModel } from "../../test/models.js";
import { NetworkWriter } from "../../test/networks.js";
import { prepareWalk, roundWeights, stepNamed, walkThrough } from "../../test/walking.js";
import type { Feeds } from "../engine/engine.js";
import { buildGraph, type ValueName } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { applyPatch } from "../graph/patch.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { parseRecipe } from "../recipe/recipe.js";
import { float32Tensor, float32Values, float64Values, floatTensor, type Tensor } from "../tensor/tensor.js";
import { walk } from "../walk/walk.js";
import { applyLines, type ClusterMap, clustersByScores } from "./cluster-affine.js";
import { writeClusterMap } from "./cluster-graph.js";
import { findLogits, type Logits, wayToLayer } from "./logits.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const operators = (model: Model) => model.graph.nodes.map(({ opType }) => opType);
const valuesOf = (model: Model, name: string) => [...float32Values(model.graph.initializers.get(name) as Tensor)];

function withConstants(model: Model, tensors: Readonly<Record<string, Tensor>>): Model {
  const initializers = new Map([...model.graph.initializers, ...Object.entries(tensors)]);
  return withGraph(model, buildGraph({ ...model.graph, initializers }));
}

/** A network with one layer whose logits are what it is fed, `[N, 3]`, and one whose bias lacks something. */
function makeClassifier(type: "float32" | "float16" = "float32", behind: readonly string[] = []) {
  const tensor = (shape: readonly number[], values: readonly number[]) => floatTensor(type, shape, values);
  const names = ["z", ...behind.map((opType) => opType.toLowerCase())];
  const float = makeTestModel({
    feeds: { x: tensor([1, 3], [0, 0, 0]) },
    shapes: { x: ["n", 3] },
    nodes: [
      makeNode("Gemm", ["x", "w", "b"], ["z"]),
      ...behind.map((opType, i) => makeNode(opType, [names[i]], [names[i + 1]])),
    ],
    initializers: { w: tensor([3, 3], [1, 0, 0, 0, 1, 0, 0, 0, 1]), b: tensor([3], [0, 0, 0]) },
    outputs: [names[names.length - 1]],
  }).model;
  const current = withConstants(float, { b: tensor([3], [1, 0, -0.5]) });
  const samples = Array.from({ length: 5 }, (_, i): Feeds => new Map([["x", tensor([1, 3], [i, 1, 3 - i])]]));
  return { float, current, samples };
}

describe("clusters of outputs, by hand", () => {
  it.each([
    ["float32", []],
    ["float16", []],
    ["float32", ["Softmax"]],
    ["float32", ["LogSoftmax", "Identity"]],
  ] as const)("puts a constant into the bias of the last layer: %s %j", async (type, behind) => {
    const { float, current, samples } = makeClassifier(type, behind);
    const { model, records } = await walkThrough(engine, float, current, samples, stepNamed("cat"));
    expect(operators(model)).toEqual(operators(current));
    expect(valuesOf(model, "b")).toEqual([0, 0, 0]);
    expect(records).toMatchObject([{ kind: "solved", errorAfter: 0, remark: expect.stringMatching(/^global bias, /) }]);
    const [record] = records;
    // ln(e + 1 + e^-0.5) less what the float network gives, over five samples: checked with the softmax written down.
    const divergenceOf = (logits: readonly number[]) => {
      const shares = (z: readonly number[]) => z.map((v) => Math.exp(v) / z.reduce((sum, w) => sum + Math.exp(w), 0));
      const [p, q] = [shares(logits), shares(logits.map((value, i) => value + [1, 0, -0.5][i]))];
      return p.reduce((sum, share, i) => sum + share * Math.log(share / q[i]), 0);
    };
    const before = [0, 1, 2, 3, 4].reduce((sum, i) => sum + divergenceOf([i, 1, 3 - i]) / 5, 0);
    if (record.kind === "solved") expect(record.errorBefore).toBeCloseTo(before, 6);
  });

  it("goes back to the bias of a convolution, but not through a grid", async () => {
    const net = new NetworkWriter();
    net.node("GlobalAveragePool", [net.conv("x", "c", [3, 2], 1)], "pooled");
    net.node("Softmax", [net.node("Flatten", ["pooled"], "z")], "y");
    const { model: float } = net.finish({ x: someFloats([1, 2, 4, 4]) }, ["y"]);
    const current = withConstants(float, { c_b: float32Tensor([3], [0.5, 1, -1]) });
    const samples = [1, 2, 3, 4, 5, 6].map((seed): Feeds => new Map([["x", someFloats([1, 2, 4, 4], seed)]]));
    const { model } = await walkThrough(engine, float, current, samples, stepNamed("cat"));
    expect(operators(model)).toEqual(operators(float));
    const change = valuesOf(float, "c_b").map((value, i) => value - valuesOf(model, "c_b")[i]);
    // A constant for all classes is nothing to a softmax, but the logits are brought back as they were.
    for (const value of change) expect(Math.abs(value)).toBeLessThan(1e-5);

    const nodes = current.graph.nodes.flatMap((node) =>
      node.opType === "Flatten"
        ? [
            makeNode("QuantizeLinear", ["pooled", "scale"], ["codes"]),
            makeNode("DequantizeLinear", ["codes", "scale"], ["grid"]),
            makeNode("Flatten", ["grid"], ["z"]),
          ]
        : [node],
    );
    const initializers = new Map([...current.graph.initializers, ["scale", float32Tensor([], [0.05])] as const]);
    const gridded = withGraph(current, buildGraph({ ...current.graph, nodes, initializers }));
    const { input, context } = await prepareWalk(engine, float, gridded, samples);
    const behindGrid = await walk(input, [stepNamed("cat").open(context, { mode: "bias", clusters: 1 })]);
    expect(operators(behindGrid.model).slice(-3)).toEqual(["Flatten", "Add", "Softmax"]);
  });
});

/** Two clusters of rows of three classes: told apart by the first value. */
const map: ClusterMap = {
  slopes: Float64Array.of(2, 1, 0.5, 1, 1, 3),
  offsets: Float64Array.of(0, 1, 2, -1, -2, -3),
  scores: { weight: Float64Array.of(1, -1, 0, 0, 0, 0), bias: Float64Array.of(0, 0.1) },
};

describe("the graph of a map", () => {
  const forms = [
    ["[N, K]", [2, 3], false],
    ["[N, K, 1, 1]", [4, 3, 1, 1], false],
    ["[N, 1, K]", [4, 1, 3], false],
    ["[N, T, K]", [2, 5, 3], true],
  ] as const;

  describe.each(["float32", "float16"] as const)("in %s", (type) => {
    it.each(forms)("computes what the lines say: %s", async (_about, shape, isNamed) => {
      const x = floatTensor(type, shape, float32Values(someFloats(shape, 3)));
      const { model, place } = await makeRelu(x, isNamed);
      for (const given of [
        map,
        { ...map, slopes: undefined },
        { slopes: map.slopes?.slice(0, 3), offsets: map.offsets.slice(0, 3) },
      ]) {
        const one: ClusterMap = { scores: undefined, ...given };
        const patched = withGraph(model, applyPatch(model.graph, writeClusterMap(model.graph, place, one)));
        const output = (await runModel(engine, patched, new Map([["x", x]]))).get("y") as Tensor;
        const logits = float64Values(x).map((value) => Math.max(value, 0));
        const assignment = one.scores ? clustersByScores(logits, 3, one.scores) : new Int32Array(logits.length / 3);
        if (one.scores) expect(new Set(assignment).size).toBe(2);
        expect(output).toMatchObject({ type, shape });
        const expected = floatTensor(type, shape, applyLines(logits, assignment, one));
        for (const [i, value] of float32Values(expected).entries()) {
          expect(float32Values(output)[i]).toBeCloseTo(value, type === "float32" ? 5 : 2);
        }
      }
    });
  });

  it("is the six operators, and as few as do", async () => {
    const { model, place } = await makeRelu(float32Tensor([1, 3], [1, 2, 3]), false);
    const written = (given: ClusterMap) =>
      operators(withGraph(model, applyPatch(model.graph, writeClusterMap(model.graph, place, given))));
    expect(written(map)).toEqual(["Relu", "MatMul", "Add", "ArgMin", "Gather", "Mul", "Gather", "Add"]);
    expect(written({ ...map, slopes: undefined })).toEqual(["Relu", "MatMul", "Add", "ArgMin", "Gather", "Add"]);
    const [slopes, offsets] = [Float64Array.of(1, 2, 3), Float64Array.of(4, 5, 6)];
    expect(written({ slopes, offsets, scores: undefined })).toEqual(["Relu", "Mul", "Add"]);
    expect(written({ slopes: undefined, offsets, scores: undefined })).toEqual(["Relu", "Add"]);
  });

  async function makeRelu(x: Tensor, isNamed: boolean) {
    const test: TestModel = makeTestModel({
      feeds: { x },
      shapes: { x: ["n", ...x.shape.slice(1)] },
      nodes: [makeNode("Relu", ["x"], ["y"])],
      outputs: ["y"],
    });
    const { context } = await prepareWalk(engine, test.model, test.model, []);
    const logits = findLogits(context.float, context.types, "y", isNamed) as Logits;
    expect(logits.classes).toBe(3);
    return { model: test.model, place: { ...logits, way: wayToLayer(context.float, context.types, logits) } };
  }
});

describe("the outputs that are compensated", () => {
  it.each([
    ["Sigmoid", [1, 4], {}, "is a sigmoid: its values are no distribution over classes"],
    ["Softmax", [2, 4], { axis: 0 }, "is a softmax along another axis"],
    ["Relu", [1, 1], {}, "has no more than one value a sample"],
    ["Relu", [4], {}, "has no more than one value a sample"],
    ["Relu", [1, 2, 3], {}, /^has more than one row of values a sample: given as `output`/],
    ["ArgMax", [1, 4, 5], { axis: 1 }, "is int64, no float type"],
  ])("tell why not: %s of %j", async (opType, shape, attributes, reason) => {
    const float = makeTestModel({
      feeds: { x: someFloats(shape) },
      nodes: [makeNode(opType, ["x"], ["y"], attributes)],
      outputs: ["y"],
    });
    const { context } = await prepareWalk(engine, float.model, float.model, []);
    const { sites, unusable } = stepNamed("cat").open(context);
    expect(sites).toEqual([]);
    expect(unusable).toEqual([{ label: "y", reason: expect.stringMatching(reason) }]);
  });

  it("may be named, with a row of classes at every place", async () => {
    const net = new NetworkWriter();
    net.linear("x", "y", [4, 3]);
    net.linear("x", "z", [4, 2]);
    const { model: float } = net.finish({ x: someFloats([1, 5, 4]) }, ["y", "z"]);
    const current = roundWeights(float);
    const samples = [1, 2, 3, 4, 5].map((seed): Feeds => new Map([["x", someFloats([1, 5, 4], seed)]]));
    const { context } = await prepareWalk(engine, float, current, samples);
    const labels = (output: ValueName) =>
      stepNamed("cat")
        .open(context, { output })
        .sites.map(({ label }) => label);
    expect([labels(""), labels("y"), labels("z")]).toEqual([[], ["y"], ["z"]]);
  });
});

describe("the options of a recipe", () => {
  it("are filled in, and may be the published ones", () => {
    const published = { mode: "affine", alpha: 0.4, clusters: 64, dimensions: 50, tau: 0, output: "logits", seed: 1 };
    const auto = { output: "", mode: "auto", alpha: "auto", clusters: "auto", dimensions: "auto", tau: 30, seed: 0 };
    const { steps } = parseRecipe({ steps: ["cat", { use: "cat", ...published }] });
    expect(steps).toEqual([
      { use: "cat", ...auto },
      { use: "cat", ...published },
    ]);
  });

  it.each([
    ["output", 3, "must be a text"],
    ["alpha", 1.5, 'must be a number from 0 to 1 or "auto"'],
    ["clusters", 2.5, 'must be a whole number from 1 to 1024 or "auto"'],
    ["mode", "lines", 'must be "auto" or "bias" or "affine"'],
  ])("are refused where they mean nothing: %s %j", (option, value, message) => {
    const refused = expect.objectContaining({ message, place: { field: `steps[0].${option}` } });
    expect(() => parseRecipe({ steps: [{ use: "cat", [option]: value }] })).toThrow(refused);
  });
});
