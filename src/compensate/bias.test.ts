import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, someFloats, type TestModelParts } from "../../test/models.js";
import { activationBehind, type ChannelOutputs, errorWith, fetchChannels } from "../../test/slow-walk.js";
import { prepareWalk, roundWeights, stepNamed, unjudgedBias, walkThrough } from "../../test/walking.js";
import type { Feeds } from "../engine/engine.js";
import { buildGraph } from "../graph/graph.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { AnyStep } from "../step/open-step.js";
import type { StepContext } from "../step/step.js";
import { float32Tensor, float32Values, floatTensor, int64Tensor, type Tensor } from "../tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** The same model with another tensor. */
function withConstant(model: Model, name: string, tensor: Tensor): Model {
  const initializers = new Map([...model.graph.initializers, [name, tensor] as const]);
  return withGraph(model, buildGraph({ ...model.graph, initializers }));
}

/** Of what is judged on nothing. */
const remark = "all samples ran at once: nothing is left to judge its bias on";

const valuesOf = (model: Model, name: string) => [...float32Values(model.graph.initializers.get(name) as Tensor)];

describe("bias compensation of a layer by hand", () => {
  const identity = float32Tensor([2, 2], [1, 0, 0, 1]);
  const halved = float32Tensor([2, 2], [1, 0, 0, 0.5]);
  const model = (nodes: TestModelParts["nodes"], more: Readonly<Record<string, Tensor>> = {}, outputs = ["y"]) =>
    makeTestModel({
      feeds: { x: float32Tensor([2, 2], [0, 0, 0, 0]) },
      nodes,
      outputs,
      initializers: { w: identity, ...more },
    }).model;
  const samples: readonly Feeds[] = [new Map([["x", float32Tensor([2, 2], [1, 2, 3, 4])]])];
  const through = (float: Model) => walkThrough(engine, float, withConstant(float, "w", halved), samples);

  it("adds the mean error", async () => {
    // The second output is half of 2 and 4: 1 and 2 are missing, 1.5 on average.
    const { model: result, records } = await through(
      model([makeNode("Gemm", ["x", "w", "b"], ["y"])], { b: float32Tensor([2], [10, 20]) }),
    );
    expect(valuesOf(result, "b")).toEqual([10, 21.5]);
    // Errors 1 and 4 over two channels; 0.25 each are left.
    expect(records).toEqual([{ label: "y", kind: "solved", errorBefore: 1.25, errorAfter: 0.125, remark }]);
  });

  it("fits what passes a Relu", async () => {
    // Float: 0, 0 and then 0, 1. Halved, less 3: -2, -1; of the second channel only the 1 of the second row is missing.
    const b = float32Tensor([2], [-9, -3]);
    const float = model([makeNode("Gemm", ["x", "w", "b"], ["y"]), makeNode("Relu", ["y"], ["z"])], { b }, ["z"]);
    const { model: result, records } = await through(float);
    // The bias that makes it 1 leaves 0 in the first row: 2/2 - 3 + 2 = 0.
    expect(valuesOf(result, "b")).toEqual([-9, -1]);
    expect(records).toEqual([{ label: "y", kind: "solved", errorBefore: 0.25, errorAfter: 0, remark }]);
  });

  it("leaves another layer with the same bias as it is", async () => {
    const nodes = [makeNode("Gemm", ["x", "w", "b"], ["y"]), makeNode("Gemm", ["x", "v", "b"], ["z"])];
    const float = model(nodes, { b: float32Tensor([2], [10, 20]), v: identity }, ["y", "z"]);
    const { model: result } = await through(float);
    expect(valuesOf(result, "b")).toEqual([10, 20]);
    expect(valuesOf(result, "b_compensated")).toEqual([10, 21.5]);
  });

  it("adds an Add behind a MatMul that has none", async () => {
    const { model: result } = await through(model([makeNode("MatMul", ["x", "w"], ["y"])]));
    expect(result.graph.nodes.map(({ opType, outputs }) => [opType, ...outputs])).toEqual([
      ["MatMul", "y_uncompensated"],
      ["Add", "y"],
    ]);
    expect(valuesOf(result, "y_bias")).toEqual([0, 1.5]);
  });

  it("works in half precision", async () => {
    const half = (shape: readonly number[], values: readonly number[]) => floatTensor("float16", shape, values);
    const float = makeTestModel({
      feeds: { x: half([2, 2], [0, 0, 0, 0]) },
      nodes: [makeNode("Gemm", ["x", "w", "b"], ["y"]), makeNode("Clip", ["y", "low", "high"], ["z"])],
      outputs: ["z"],
      initializers: { w: half([2, 2], [1, 0, 0, 1]), b: half([2], [0, 0]), low: half([], [0]), high: half([], [6]) },
    }).model;
    const current = withConstant(float, "w", half([2, 2], [1, 0, 0, 0.5]));
    const fed = [new Map([["x", half([2, 2], [1, 2, 3, 4])]])];
    const { model: result } = await walkThrough(engine, float, current, fed);
    expect(result.graph.initializers.get("b")?.type).toBe("float16");
    expect(valuesOf(result, "b")).toEqual([0, 1.5]);
  });

  it("counts every element once, whatever the size of batches", async () => {
    const float = makeTestModel({
      feeds: { x: float32Tensor([1, 1], [0]) },
      shapes: { x: ["n", 1] },
      nodes: [makeNode("Gemm", ["x", "w"], ["y"])],
      outputs: ["y"],
      initializers: { w: float32Tensor([1, 1], [1]) },
    }).model;
    const current = withConstant(float, "w", float32Tensor([1, 1], [0]));
    const fed = [[1], [2, 3, 4], [5, 6]].map((x): Feeds => new Map([["x", float32Tensor([x.length, 1], x)]]));
    const { model: result } = await walkThrough(engine, float, current, fed);
    // The mean of the batches' means would be 3.17.
    expect(valuesOf(result, "y_bias")).toEqual([3.5]);
  });
});

describe("bias compensation by position", () => {
  const byPosition: AnyStep = {
    ...stepNamed("bc"),
    open: (context) => stepNamed("bc").open(context, { bias: "position" }),
  };
  const convolution = (shapes: TestModelParts["shapes"], behind: TestModelParts["nodes"] = []) =>
    makeTestModel({
      feeds: { x: float32Tensor([1, 1, 1, 2], [0, 0]) },
      shapes,
      nodes: [makeNode("Conv", ["x", "w", "b"], ["y"]), ...behind],
      outputs: [behind.length > 0 ? "z" : "y"],
      initializers: { w: float32Tensor([1, 1, 1, 1], [1]), b: float32Tensor([1], [10]) },
    }).model;
  // Each twice, so that both halves of the runs say the same.
  const fed = [
    [1, 2],
    [1, 2],
    [3, 8],
    [3, 8],
  ].map((x): Feeds => new Map([["x", float32Tensor([1, 1, 1, 2], x)]]));
  const halve = (float: Model) => withConstant(float, "w", float32Tensor([1, 1, 1, 1], [0.5]));

  it("adds the mean error of each position", async () => {
    const float = convolution({ x: ["n", 1, 1, 2] });
    const { model, records } = await walkThrough(engine, float, halve(float), fed, byPosition);
    // Halves of 1 and 3 are missing at the first position, halves of 2 and 8 at the second.
    expect(model.graph.nodes.map(({ opType }) => opType)).toEqual(["Conv", "Add"]);
    expect(model.graph.initializers.get("y_bias")?.shape).toEqual([1, 1, 2]);
    expect(valuesOf(model, "y_bias")).toEqual([1, 2.5]);
    // Squares (0.25 + 2.25 + 1 + 16) / 4; (0.25 + 0.25 + 2.25 + 2.25) / 4 are left.
    expect(records).toEqual([
      { label: "y", kind: "solved", errorBefore: 4.875, errorAfter: 1.25, remark: "its bias holds 1 × 1 × 2 numbers" },
    ]);
  });

  it("fits what passes a Relu", async () => {
    const float = withConstant(
      convolution({ x: ["n", 1, 1, 2] }, [makeNode("Relu", ["y"], ["z"])]),
      "b",
      float32Tensor([1], [-2]),
    );
    const { model } = await walkThrough(engine, float, halve(float), fed, byPosition);
    // Float: 0, 0 and then 1, 6. Halved: -1.5, -1 and -0.5, 2. The mean error would be 1 and 2.5: Newton goes on from there.
    const [first, second] = valuesOf(model, "y_bias");
    const errorAt = (bias: number, pairs: readonly (readonly [number, number])[]) =>
      pairs.reduce((sum, [wanted, given]) => sum + (wanted - Math.max(given + bias, 0)) ** 2, 0);
    expect(
      errorAt(first, [
        [0, -1.5],
        [1, -0.5],
      ]),
    ).toBeLessThan(
      errorAt(0, [
        [0, -1.5],
        [1, -0.5],
      ]),
    );
    expect(
      errorAt(second, [
        [0, -1],
        [6, 2],
      ]),
    ).toBeLessThan(
      errorAt(2.5, [
        [0, -1],
        [6, 2],
      ]) + 1e-6,
    );
  });

  it("says that lengths have to be fixed", async () => {
    const float = convolution({ x: ["n", 1, 1, "width"] });
    const { model, records } = await walkThrough(engine, float, halve(float), fed, byPosition);
    expect(model.graph.nodes).toHaveLength(1);
    const reason = "the length of an axis of its output is not fixed: there is no bias per position";
    expect(records).toEqual([{ label: "y", kind: "skipped", reason }]);
  });

  it("is that of a channel where there are no positions", async () => {
    const float = makeTestModel({
      feeds: { x: float32Tensor([1, 1], [1]) },
      shapes: { x: ["n", 1] },
      nodes: [makeNode("Gemm", ["x", "w"], ["y"])],
      outputs: ["y"],
      initializers: { w: float32Tensor([1, 1], [1]) },
    });
    const current = withConstant(float.model, "w", float32Tensor([1, 1], [0.5]));
    const { model, records } = await walkThrough(engine, float.model, current, [float.feeds], byPosition);
    expect(model.graph.nodes.map(({ opType }) => opType)).toEqual(["Gemm"]);
    expect(records).toEqual([{ label: "y", kind: "solved", errorBefore: 0.25, errorAfter: 0, remark }]);
  });

  it("has no place where the first axis holds channels", async () => {
    const float = makeTestModel({
      feeds: { x: float32Tensor([1, 2], [1, 2]) },
      nodes: [makeNode("MatMul", ["w", "x"], ["y"])],
      outputs: ["y"],
      initializers: { w: float32Tensor([1, 1], [1]) },
    });
    const { context } = await prepareWalk(engine, float.model, float.model, [float.feeds]);
    expect(byPosition.open(context).unusable).toEqual([
      { label: "y", reason: "its first axis holds channels, not samples" },
    ]);
  });
});

describe("bias compensation of a layer on runs that it was not fitted on", () => {
  const scalar = (value: number) => float32Tensor([1, 1], [value]);
  /** y = x · w, whose w is lost: what is missing of each value is x. */
  const through = (fed: readonly number[], behind: TestModelParts["nodes"] = [], b = 0, step = stepNamed("bc")) => {
    const float = makeTestModel({
      feeds: { x: scalar(0) },
      shapes: { x: ["n", 1] },
      nodes: [makeNode("Gemm", ["x", "w", "b"], ["y"]), ...behind],
      outputs: [behind.length > 0 ? "z" : "y"],
      initializers: { w: scalar(1), b: float32Tensor([1], [b]) },
    }).model;
    const samples = fed.map((x): Feeds => new Map([["x", scalar(x)]]));
    return walkThrough(engine, float, withConstant(float, "w", scalar(0)), samples, step);
  };

  it("leaves the layer as it is where both halves say the opposite", async () => {
    // 1 is missing on the one half, −0.6 on the other: fitted to one, 2 · 1.6² instead of 1 + 0.6² on the other.
    const { model, records } = await through([1, -0.6, 1, -0.6]);
    const reason = `on samples held back its error would be ${((2 * 1.6 ** 2) / (1 + 0.6 ** 2)).toFixed(3)} times what it is`;
    expect(records).toEqual([{ label: "y", kind: "skipped", reason }]);
    expect(valuesOf(model, "b")).toEqual([0]);
  });

  it("takes what was measured all the same where every bias is asked for", async () => {
    const { model, records } = await through([1, -0.6, 1, -0.6], [], 0, unjudgedBias);
    expect(records).toMatchObject([{ kind: "solved" }]);
    expect(valuesOf(model, "b")[0]).toBeCloseTo(0.2, 6);
  });

  it("takes what is in doubt where something else decides in the end", async () => {
    const bc = stepNamed("bc");
    const trusting = { ...bc, open: (context: StepContext) => bc.open({ ...context, keepsDoubtful: true }) };
    const { model } = await through([1, -0.6, 1, -0.6], [], 0, trusting);
    expect(valuesOf(model, "b")[0]).toBeCloseTo(0.2, 6);
  });

  it("takes what both halves gain by", async () => {
    // 1 and 3: fitted to one, 2 · 2² instead of 1 + 3² on the other.
    const { model, records } = await through([1, 3, 1, 3]);
    expect(records).toEqual([{ label: "y", kind: "solved", errorBefore: 5, errorAfter: 1 }]);
    expect(valuesOf(model, "b")).toEqual([2]);
  });

  it("takes what halves hardly differ in, whatever little it gains", async () => {
    // Means of 0.15 and −0.05 beside a mean square of about 1: 0.04 − 0.005 more on the other half, less than a twentieth.
    const { records } = await through([1.15, 0.95, -0.85, -1.05]);
    expect(records).toMatchObject([{ kind: "solved" }]);
    // Means of 0.3 and −0.1: four times as much.
    const { records: others } = await through([1.3, 0.9, -0.7, -1.1]);
    expect(others).toMatchObject([{ kind: "skipped" }]);
  });

  it("does so behind a Relu", async () => {
    const relu = [makeNode("Relu", ["y"], ["z"])];
    // Wanted: 5 + x, and 5 is given.
    expect((await through([1, -0.6, 1, -0.6], relu, 5)).records).toMatchObject([{ kind: "skipped" }]);
    const { model, records } = await through([1, 3, 1, 3], relu, 5);
    expect(records).toMatchObject([{ kind: "solved", errorBefore: 5, errorAfter: 1 }]);
    expect(valuesOf(model, "b")).toEqual([7]);
  });
});

describe("bias compensation behind an activation function", () => {
  const limits = { low: float32Tensor([], [0]), high: float32Tensor([], [1]) };

  it.each([
    ["Relu", ["y"]],
    ["Clip", ["y", "low", "high"]],
    ["Clip", ["y", "low"]],
    ["Clip", ["y", "", "high"]],
  ] as const)("is never worse in any channel and about as good as can be: %s %j", async (opType, inputs) => {
    const float = makeTestModel({
      feeds: { x: someFloats([1, 3, 5, 5]) },
      nodes: [makeNode("Conv", ["x", "w", "b"], ["y"]), makeNode(opType, inputs, ["z"])],
      outputs: ["z"],
      initializers: { w: someFloats([12, 3, 3, 3], 2), b: someFloats([12], 3), ...limits },
    }).model;
    const current = roundWeights(float, 0.7);
    const samples = [4, 5, 6, 7, 8].map((seed): Feeds => new Map([["x", positive(someFloats([1, 3, 5, 5], seed))]]));
    const { model, records } = await walkThrough(engine, float, current, samples);
    const activation = activationBehind(float.graph, "y")!;
    const before = await fetchChannels(engine, float, current, "y", samples, -3);
    const after = await fetchChannels(engine, float, model, "y", samples, -3);
    const errors = before.map((channel, i) => ({
      before: errorWith(channel, 0, activation),
      after: errorWith(after[i], 0, activation),
      best: bestError(channel, activation),
    }));
    for (const error of errors) expect(error.after).toBeLessThan(error.before + 1e-6);
    const sum = (key: "before" | "after" | "best") => errors.reduce((total, error) => total + error[key], 0);
    expect(sum("after") - sum("best")).toBeLessThan(0.05 * (sum("before") - sum("best")));
    expect(records).toMatchObject([{ kind: "solved" }]);
    const [record] = records;
    if (record.kind === "solved") expect(record.errorAfter).toBeCloseTo(sum("after") / 12, 5);
  });

  it("does not look behind a Clip with limits that are computed", async () => {
    const float = makeTestModel({
      feeds: { x: float32Tensor([1, 1], [1]), low: float32Tensor([], [5]) },
      nodes: [makeNode("Gemm", ["x", "w"], ["y"]), makeNode("Clip", ["y", "low"], ["z"])],
      outputs: ["z"],
      initializers: { w: float32Tensor([1, 1], [1]) },
    });
    const current = withConstant(float.model, "w", float32Tensor([1, 1], [0.5]));
    const { model } = await walkThrough(engine, float.model, current, [float.feeds]);
    expect(valuesOf(model, "y_bias")).toEqual([0.5]);
  });
});

describe("the sites of bias compensation", () => {
  it("tell why a layer is no site", async () => {
    const float = makeTestModel({
      feeds: { ids: int64Tensor([3, 1], [1, 2, 3]) },
      nodes: [
        makeNode("Gather", ["table", "ids"], ["rows"]),
        makeNode("LSTM", ["rows", "w", "r"], ["", "y"], { hidden_size: 4 }),
      ].map((node) => ({ ...node, name: node.opType })),
      outputs: ["y"],
      initializers: { table: someFloats([1024, 4]), w: someFloats([1, 16, 4], 2), r: someFloats([1, 16, 4], 3) },
    });
    const { input, context } = await prepareWalk(engine, float.model, roundWeights(float.model), [float.feeds]);
    const layers = context.layers.map((layer) => ({ ...layer, output: layer.opType === "LSTM" ? "y" : layer.output }));
    const open = stepNamed("bc").open({ ...context, layers });
    expect(open.sites).toEqual([]);
    expect(open.unusable).toEqual([
      { label: "Gather", reason: "a table has no bias" },
      { label: "LSTM", reason: "the bias of LSTM acts inside the recurrence" },
      { label: "LSTM", reason: "the bias of LSTM acts inside the recurrence" },
    ]);
    expect(input.blocks.length).toBeGreaterThan(0);
  });

  it("are none where the type or the layer is not known", () => {
    const { graph } = makeTestModel({
      feeds: { x: float32Tensor([1, 1], [1]) },
      nodes: [makeNode("Gemm", ["x", "w"], ["y"])],
      outputs: ["y"],
      initializers: { w: float32Tensor([1, 1], [1]) },
    }).model;
    const layers = ["y", "gone"].map((output) => ({ label: output, opType: "Gemm", output, outputAxis: -1 }));
    expect(
      stepNamed("bc").open({ float: graph, current: graph, types: new Map(), layers, plans: [], batches: 1 }).unusable,
    ).toEqual([
      { label: "y", reason: "the type or rank of its output is unknown" },
      { label: "gone", reason: "its output was folded away" },
    ]);
  });
});

function positive(tensor: Tensor): Tensor {
  return float32Tensor(
    tensor.shape,
    float32Values(tensor).map((value) => value + 0.5),
  );
}

/** The smallest error of all biases, by trying very many. */
function bestError(channel: ChannelOutputs, activation: (value: number) => number): number {
  let best = errorWith(channel, 0, activation);
  for (let bias = -6; bias <= 6; bias += 0.02) best = Math.min(best, errorWith(channel, bias, activation));
  return best;
}
