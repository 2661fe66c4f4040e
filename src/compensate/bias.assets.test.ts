import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { makeTestModel } from "../../test/models.js";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { walkThrough } from "../../test/walking.js";
import { readNpz } from "../data/npz.js";
import type { Feeds } from "../engine/engine.js";
import type { Model } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, float32Values, type Tensor } from "../tensor/tensor.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

/** Absolute, as the oracle's own page says: the reference sums in float32. */
const tolerance = 2e-6;

/** Layer, bits, and the mean squared error of the layer's output without and with the bias. */
const cases = [
  ["linear", 2, 0.23572874069213867, 0.1386077105998993],
  ["linear", 3, 0.054269541054964066, 0.026941612362861633],
  ["linear", 4, 0.012927304022014141, 0.006350981071591377],
  ["conv", 2, 0.1521141082048416, 0.08168680220842361],
  ["conv", 3, 0.02325947768986225, 0.016115598380565643],
  ["conv", 4, 0.00448083458468318, 0.0031804670579731464],
] as const;

describe.skipIf(!sharedFolder)("bias compensation against the reference program", () => {
  it.each(cases)("%s, %i bits", async (layer, bits, errorBefore, errorAfter) => {
    const arrays = readOracle(layer);
    const batches = slices(arrays.get("X") as Tensor);
    const { change, records } = await compensate(layer, arrays, bits, batches);
    expectClose(change, arrays.get(`bias_b${bits}_channel`) as Tensor);
    expect(records).toHaveLength(1);
    const [record] = records;
    if (record.kind === "skipped") throw new Error(record.reason);
    expect(Math.abs(record.errorBefore / errorBefore - 1)).toBeLessThan(1e-4);
    expect(Math.abs(record.errorAfter / errorAfter - 1)).toBeLessThan(1e-4);
  });

  it("weighs batches by their size", async () => {
    const arrays = readOracle("linear");
    const [x0, x1, x2, x3, x4] = slices(arrays.get("X") as Tensor).map((batch) => slices(batch));
    const batches = [x0.slice(0, 1), x1, [...x2, ...x3, ...x4.slice(0, 3)]].map(stack);
    expect(batches.map((batch) => batch.shape[0])).toEqual([1, 4, 11]);
    const { change } = await compensate("linear", arrays, 3, batches);
    expectClose(change, arrays.get("bias_unequal_exact") as Tensor);
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
  const { model, records } = await walkThrough(engine, float, current, samples);
  const before = float32Values(bias);
  const after = float32Values(model.graph.initializers.get("b") as Tensor);
  return { change: Array.from(after, (value, i) => value - before[i]), records };
}

function makeLayer(x: Tensor, nodes: readonly ReturnType<typeof makeNode>[], w: Tensor, b: Tensor): Model {
  const shapes = { x: ["batch", ...x.shape.slice(1)] };
  return makeTestModel({ feeds: { x }, shapes, nodes, outputs: ["y"], initializers: { w, b } }).model;
}

function expectClose(actual: readonly number[], expected: Tensor): void {
  const values = float32Values(expected);
  expect(actual).toHaveLength(values.length);
  for (const [i, value] of values.entries()) expect(Math.abs(actual[i] - value)).toBeLessThan(tolerance);
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
