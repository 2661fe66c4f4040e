import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel, runModel } from "../../test/models.js";
import { NetworkWriter } from "../../test/networks.js";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { prepareWalk, stepNamed, unjudgedBias, walkThrough } from "../../test/walking.js";
import { readNpz } from "../data/npz.js";
import type { Feeds } from "../engine/engine.js";
import type { Model } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import type { AnyStep } from "../step/open-step.js";
import type { OptionValues } from "../step/options.js";
import { float32Tensor, float32Values, type Tensor } from "../tensor/tensor.js";
import { surveySites } from "../walk/survey.js";
import { walk } from "../walk/walk.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** Absolute, as the oracle's own page says: the reference sums in float32. */
const tolerance = 2e-6;
/** Of mean squares, relative. */
const errorTolerance = 1e-4;

interface Case {
  readonly key: string;
  readonly bits: number;
  /** Mean squared errors of the layer's output without and with the bias. */
  readonly mse_calib_before: number;
  readonly mse_calib_after: number;
  /** On inputs that the bias was not fitted on. */
  readonly mse_val_before?: number;
  readonly mse_val_after?: number;
}

const index = sharedFolder && JSON.parse(readFileSync(sharedPath("oracles", "index.json"), "utf8"));
const cases = (["linear", "conv"] as const).flatMap((layer) =>
  ((index?.[`bc-${layer}.npz`].cases ?? []) as readonly Case[]).map((one) => [layer, one.key, one] as const),
);

describe.skipIf(!sharedFolder)("bias compensation against the reference program", () => {
  it.each(cases)("%s, %s", async (layer, key, { bits, ...errors }) => {
    const arrays = readOracle(layer);
    const batches = slices(arrays.get("X") as Tensor);
    const options = { bias: key.endsWith("_channel") && !key.includes("token") ? "channel" : "position" };
    const { float, current, model, change, records } = await compensate(layer, arrays, bits, batches, options);
    expectClose(change, arrays.get(`bias_${key}`) as Tensor, tolerance);
    expect(records).toHaveLength(1);
    const [record] = records;
    if (record.kind === "skipped") throw new Error(record.reason);
    expect(Math.abs(record.errorBefore / errors.mse_calib_before - 1)).toBeLessThan(errorTolerance);
    expect(Math.abs(record.errorAfter / errors.mse_calib_after - 1)).toBeLessThan(errorTolerance);
    if (errors.mse_val_before === undefined || errors.mse_val_after === undefined) return;
    const unseen = arrays.get("X_val") as Tensor;
    const wanted = await outputOf(float, unseen);
    for (const [quantized, expected] of [
      [current, errors.mse_val_before],
      [model, errors.mse_val_after],
    ] as const) {
      const found = await outputOf(quantized, unseen);
      const error = found.reduce((sum, value, i) => sum + (value - wanted[i]) ** 2, 0) / found.length;
      expect(Math.abs(error / expected - 1)).toBeLessThan(errorTolerance);
    }
  });

  it("weighs batches by their size", async () => {
    const arrays = readOracle("linear");
    const [x0, x1, x2, x3, x4] = slices(arrays.get("X") as Tensor).map((batch) => slices(batch));
    const batches = [x0.slice(0, 1), x1, [...x2, ...x3, ...x4.slice(0, 3)]].map(stack);
    expect(batches.map((batch) => batch.shape[0])).toEqual([1, 4, 11]);
    const { change } = await compensate("linear", arrays, 3, batches);
    expectClose(change, arrays.get("bias_unequal_exact") as Tensor, tolerance);
  });
});

describe.skipIf(!sharedFolder)("bias compensation of blocks against the reference program", () => {
  it.each(["blocks", "mlp"])("has its biases and outputs: %s", async (places) => {
    const arrays = readOracle("block");
    const { float, current, model, records } = await compensateBlocks(arrays, unjudgedBias, places);
    for (const block of ["blk0", "blk1"]) {
      const changeOf = (name: string) => differenceOf(model, current, `${block}.${name}_b`);
      const [fc1, fc2, own] = ["fc1", "fc2", "block"].map((name) => arrays.get(`${block}.bias_${name}`) as Tensor);
      expectClose(changeOf("fc1"), fc1, 2e-5);
      // The bias of a block goes into the layer that ends its residual branch.
      const both = float32Values(own).map((value, i) => value + float32Values(fc2)[i]);
      expectClose(changeOf("fc2"), float32Tensor(fc2.shape, both), 2e-5);
    }
    expect(records.filter(({ kind }) => kind === "solved")).toHaveLength(6);
    const wanted = ["Y_float", "Y_quant_bc"].map((name) => slices(arrays.get(name) as Tensor));
    for (const [i, x] of slices(arrays.get("X") as Tensor).entries()) {
      expectClose([...(await outputOf(float, x))], wanted[0][i], 1e-4);
      expectClose([...(await outputOf(model, x))], wanted[1][i], 1e-4);
    }
  });

  it("has its biases of layers alone where those of blocks help on no samples that they were not fitted on", async () => {
    const arrays = readOracle("block");
    const { current, model, records } = await compensateBlocks(arrays, stepNamed("bc"), "blocks");
    for (const layer of ["blk0.fc1", "blk0.fc2", "blk1.fc1", "blk1.fc2"]) {
      const expected = arrays.get(layer.replace(".", ".bias_")) as Tensor;
      expectClose(differenceOf(model, current, `${layer}_b`), expected, 2e-5);
    }
    const reason = expect.stringMatching(/^on samples held back its error would be 1\.05\d times what it is$/);
    for (const label of ["block of blk0", "block of blk1"]) {
      expect(records).toContainEqual({ label, kind: "skipped", reason });
    }
  });
});

function readOracle(layer: string): ReadonlyMap<string, Tensor> {
  return readNpz(readFileSync(sharedPath("oracles", `bc-${layer}.npz`)));
}

/** Takes one layer with the oracle's weights through the step; returns by how much its bias changed. */
async function compensate(
  layer: "linear" | "conv",
  arrays: ReadonlyMap<string, Tensor>,
  bits: number,
  batches: readonly Tensor[],
  options: OptionValues = {},
) {
  const bias = arrays.get("b") as Tensor;
  const modelOf = (weight: Tensor): Model =>
    layer === "conv"
      ? makeLayer(batches[0], [makeNode("Conv", ["x", "w", "b"], ["y"], { pads: [1, 1, 1, 1] })], weight, bias)
      : makeLayer(
          batches[0],
          [makeNode("MatMul", ["x", "w"], ["m"]), makeNode("Add", ["m", "b"], ["y"])],
          transpose(weight),
          bias,
        );
  const [float, current] = ["W", `Wq_b${bits}`].map((name) => modelOf(arrays.get(name) as Tensor));
  const samples = batches.map((x): Feeds => new Map([["x", x]]));
  const step: AnyStep = { ...stepNamed("bc"), open: (context) => stepNamed("bc").open(context, options) };
  const { model, records } = await walkThrough(engine, float, current, samples, step);
  return { float, current, model, change: changeOf(model, bias), records };
}

/** By what the bias differs now, or what is added to every position. */
function changeOf({ graph }: Model, bias: Tensor): readonly number[] {
  const [own, added] = ["b", "y_bias"].map((name) => graph.initializers.get(name));
  if (added !== undefined) return [...float32Values(added)];
  const before = float32Values(bias);
  // The bias of a linear layer may have got a row for every position.
  return Array.from(float32Values(own as Tensor), (value, i) => value - before[i % before.length]);
}

/** Layers first, then blocks with these biases active: all on what the float network computes. */
async function compensateBlocks(arrays: ReadonlyMap<string, Tensor>, step: AnyStep, places: string) {
  const [float, current] = ["weight", "weight_q"].map((weight) => makeBlocks(arrays, weight));
  const samples = slices(arrays.get("X") as Tensor).map((x): Feeds => new Map([["x", x]]));
  const { input, context } = await prepareWalk(engine, float, current, samples);
  const open = ["layers", places].map((place) => step.open(context, { inputs: "float", places: place }));
  const { model, records } = await walk(input, await surveySites(input, open));
  return { float, current, model, records: records.flat() };
}

/** The oracle's blocks, and a head that changes nothing: what ends in the outputs of a network is no block. */
function makeBlocks(arrays: ReadonlyMap<string, Tensor>, weight: string): Model {
  const tensorOf = (name: string) => arrays.get(name) as Tensor;
  const net = new NetworkWriter();
  const scalar = (name: string, value: number) => net.constant(name, float32Tensor([], [value]));
  const [half, one, root] = [scalar("half", 0.5), scalar("one", 1), scalar("root", Math.SQRT1_2)];
  const [x] = slices(tensorOf("X"));
  const width = x.shape[2];
  let value = "x";
  for (const block of ["blk0", "blk1"]) {
    const linear = (input: string, name: string) => {
      const own = transpose(tensorOf(`${block}.${name}.${weight}`));
      const output = net.linear(input, `${block}.${name}`, [own.shape[0], own.shape[1]]);
      net.constant(`${output}_w`, own);
      net.constant(`${output}_b`, tensorOf(`${block}.${name}.bias`));
      return output;
    };
    const normal = net.normalize(value, `${block}.ln`, width);
    net.constant(`${normal}_gain`, tensorOf(`${block}.ln.weight`));
    net.constant(`${normal}_shift`, tensorOf(`${block}.ln.bias`));
    const wide = linear(normal, "fc1");
    const share = net.node("Erf", [net.node("Mul", [wide, root], `${block}.scaled`)], `${block}.share`);
    const twice = net.node("Mul", [wide, net.node("Add", [share, one], `${block}.raised`)], `${block}.twice`);
    const narrow = linear(net.node("Mul", [twice, half], `${block}.gelu`), "fc2");
    value = net.node("Add", [narrow, value], block);
  }
  const identity = Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0));
  net.node("MatMul", [value, net.constant("identity", float32Tensor([width, width], identity))], "y");
  return net.finish({ x }, ["y"]).model;
}

function differenceOf(one: Model, other: Model, name: string): readonly number[] {
  const [values, others] = [one, other].map(({ graph }) => float32Values(graph.initializers.get(name) as Tensor));
  return Array.from(values, (value, i) => value - others[i]);
}

async function outputOf(model: Model, x: Tensor): Promise<Float32Array> {
  return float32Values((await runModel(engine, model, new Map([["x", x]]))).get("y") as Tensor);
}

function makeLayer(x: Tensor, nodes: readonly ReturnType<typeof makeNode>[], w: Tensor, b: Tensor): Model {
  const shapes = { x: ["batch", ...x.shape.slice(1)] };
  return makeTestModel({ feeds: { x }, shapes, nodes, outputs: ["y"], initializers: { w, b } }).model;
}

function expectClose(actual: readonly number[], expected: Tensor, most: number): void {
  const values = float32Values(expected);
  expect(actual).toHaveLength(values.length);
  for (const [i, value] of values.entries()) expect(Math.abs(actual[i] - value)).toBeLessThan(most);
}

/** What lies along the first axis. */
function slices(tensor: Tensor): readonly Tensor[] {
  const [count, ...shape] = tensor.shape;
  const values = float32Values(tensor);
  const size = values.length / count;
  return Array.from({ length: count }, (_, i) => float32Tensor(shape, values.slice(i * size, (i + 1) * size)));
}

function stack(tensors: readonly Tensor[]): Tensor {
  const values = tensors.flatMap((tensor) => [...float32Values(tensor)]);
  return float32Tensor([tensors.length, ...tensors[0].shape], values);
}

function transpose(matrix: Tensor): Tensor {
  const [rows, columns] = matrix.shape;
  const values = float32Values(matrix);
  return float32Tensor(
    [columns, rows],
    Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]),
  );
}
