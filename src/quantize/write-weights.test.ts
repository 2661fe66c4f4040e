import { afterAll, describe, expect, it } from "vitest";
import { fakeQuantize } from "../../test/fake-quantize.js";
import { largestDifference, makeTestModel, someFloats } from "../../test/models.js";
import { type WeightForm, weightForms } from "../../test/weight-forms.js";
import { type Feeds, type RunMode, withSession } from "../engine/engine.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { buildGraph, type Graph } from "../graph/graph.js";
import { joinGraphs } from "../graph/join.js";
import { type Model, withGraph } from "../graph/model.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { findLayers } from "../operators/index.js";
import { elementCount } from "../tensor/shape.js";
import { float32Values, floatTensor } from "../tensor/tensor.js";
import { chooseLayers } from "./choose-layers.js";
import type { Storage, WeightFormat } from "./format.js";
import { quantize } from "./quantize.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const allFormats: readonly WeightFormat[] = ([2, 3, 4, 8] as const).flatMap((bits) =>
  [true, false].flatMap((symmetric) =>
    [
      { kind: "per-tensor" } as const,
      { kind: "per-channel" } as const,
      { kind: "per-group", groupSize: 4 } as const,
    ].map((granularity) => ({ bits, symmetric, granularity })),
  ),
);

interface Variant {
  readonly name: string;
  readonly quantized: Graph;
  readonly expected: Graph;
}

/** Every format as a graph of its own; what they are to compute is the form with its weights rounded one by one. */
async function writeVariants(form: WeightForm, model: Model, storage: Storage): Promise<readonly Variant[]> {
  const types = await inferValueTypes(engine, model);
  const found = findLayers(model.graph, types);
  return Promise.all(
    allFormats.map(async (weight) => {
      const choice = chooseLayers(model.graph, types, found, () => ({ kind: "quantize", weight, activation: "float" }));
      const axes = Object.fromEntries(choice.layers.map(({ layer }) => [layer.weight, layer.channelAxis]));
      if (!form.perTensorOnly) expect(axes).toEqual(form.channelAxes);
      const quantized = (await quantize(model, choice, [], new Map(), storage)).model.graph;
      const format = form.perTensorOnly ? { ...weight, granularity: { kind: "per-tensor" } as const } : weight;
      for (const name of Object.keys(form.channelAxes)) expectStoredOnce(quantized, name, model, format, storage);
      const rounded = Object.entries(form.channelAxes).map(([name, axis]) => {
        const tensor = model.graph.constant(name)!;
        return [
          name,
          floatTensor(tensor.type, tensor.shape, float32Values(fakeQuantize(tensor, axis, format))),
        ] as const;
      });
      const initializers = new Map([...model.graph.initializers, ...rounded]);
      const { bits, symmetric, granularity } = weight;
      return {
        name: `${bits} bits, symmetric ${symmetric}, ${granularity.kind}`,
        quantized,
        expected: buildGraph({ ...model.graph, initializers }),
      };
    }),
  );
}

/** The codes stand in the file once, in no more bytes than they need, and the float weight is gone. */
function expectStoredOnce(
  graph: Graph,
  weight: string,
  { graph: before }: Model,
  format: WeightFormat,
  storage: Storage,
) {
  expect(graph.initializers.has(weight)).toBe(false);
  const count = elementCount(before.constant(weight)!.shape);
  const codes = [...graph.initializers].filter(([name]) => new RegExp(`^${weight}_(packed|quantized)`).test(name));
  const stored = codes.reduce((sum, [, tensor]) => sum + tensor.sizeBytes, 0);
  const bits = storage === "int8" || format.bits === 8 ? 8 : storage === "onnx" ? 4 : format.bits;
  // Short groups are filled up, and packed codes to a multiple of 8.
  const slack = format.granularity.kind === "per-group" ? 2 : 1;
  expect(stored).toBeLessThanOrEqual((slack * count * bits) / 8 + bits);
}

/** All variants in one session, by name. */
async function runAll(model: Model, graphs: readonly Graph[], feeds: Feeds, mode: RunMode): Promise<readonly Feeds[]> {
  const inputs = new Set(feeds.keys());
  const prefix = (i: number) => (i === 0 ? "" : `variant${i}/`);
  const joined = graphs.reduce((all, graph, i) => (i === 0 ? graph : joinGraphs(graph, prefix(i), all, inputs)));
  const results = await withSession(engine, withGraph(model, joined), { mode }, async (session) => session.run(feeds));
  return graphs.map(
    (graph, i) => new Map(graph.outputs.map(({ name }) => [name, results.outputs.get(prefix(i) + name)!] as const)),
  );
}

describe.each([
  { storage: "packed", opset: 13, tolerance: 1e-5 },
  { storage: "int8", opset: 13, tolerance: 1e-5 },
  { storage: "onnx", opset: 25, tolerance: 0.02 },
] as const)("writeWeight, stored as $storage", ({ storage, opset, tolerance }) => {
  it.each(weightForms)("computes with the rounded weights: $about", async (form) => {
    const { model, feeds } = makeTestModel({ ...form, opset, irVersion: opset === 13 ? 8 : 10 });
    const variants = await writeVariants(form, model, storage);
    const expected = await runAll(
      model,
      variants.map((variant) => variant.expected),
      feeds,
      "exact",
    );
    const isHalf = form.about.endsWith("float16");
    for (const mode of ["exact", "shipped"] as const) {
      const results = await runAll(
        model,
        variants.map((variant) => variant.quantized),
        feeds,
        mode,
      );
      const differences = variants.map(({ name }, i) => [name, largestDifference(expected[i], results[i])] as const);
      const limit = isHalf ? 2e-3 : mode === "shipped" ? tolerance : 1e-5;
      expect(differences.filter(([, difference]) => difference > limit)).toEqual([]);
    }
  });
});

it("leaves the turned weight to a node that reads it a second time", async () => {
  const { model } = makeTestModel({
    feeds: { x: someFloats([2, 8]) },
    nodes: [
      makeNode("Transpose", ["w"], ["turned"], { perm: [1, 0] }),
      makeNode("MatMul", ["x", "turned", "turned"], ["y"]),
    ],
    outputs: ["y"],
    initializers: { w: someFloats([4, 8], 2) },
  });
  const shapes = { x: [2, 8], w: [4, 8], turned: [8, 4], y: [2, 4] };
  const types = new Map(
    Object.entries(shapes).map(([name, shape]) => [name, { kind: "tensor", elementType: "float32", shape } as const]),
  );
  const weight = { bits: 4, symmetric: true, granularity: { kind: "per-channel" }, range: "minmax" } as const;
  const found = findLayers(model.graph, types);
  const choice = chooseLayers(model.graph, types, found, () => ({ kind: "quantize", weight, activation: "float" }));
  expect(choice.layers).toHaveLength(1);
  const { graph } = (await quantize(model, choice, [], new Map(), "packed")).model;
  const [, rounded, whole] = graph.producer("y")?.inputs ?? [];
  expect(rounded).not.toBe("turned");
  expect([whole, graph.producer("turned")?.opType]).toEqual(["turned", "Transpose"]);
});
