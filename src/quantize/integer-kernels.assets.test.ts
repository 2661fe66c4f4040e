import { afterAll, describe, expect, it } from "vitest";
import { runModel, someFloats } from "../../test/models.js";
import { countFloatLayers, countOperators, optimize } from "../../test/optimized.js";
import { quantizeTestModel, runShipped } from "../../test/quantizing.js";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import type { Feeds } from "../engine/engine.js";
import type { Model } from "../graph/model.js";
import { readModelFile } from "../node/model-file.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";

const engine = createRuntimeEngine({ threads: 2 });
afterAll(() => engine.close());

/** Open sizes are 1. */
function samplesFor({ graph }: Model, count: number): readonly Feeds[] {
  return Array.from({ length: count }, (_, seed) => {
    const feeds = graph.inputs.map(({ name, type }) => {
      const shape = type.kind === "tensor" ? (type.shape ?? []) : [];
      const fixed = shape.map((size) => (typeof size === "number" ? size : 1));
      return [name, someFloats(fixed, seed + 1)] as const;
    });
    return new Map(feeds);
  });
}

/** Kernels of the optimized graph, and how many layers stay in float. */
const cases: readonly (readonly [file: string, floatLayers: number, kernels: Readonly<Record<string, number>>])[] = [
  ["squeezenet1_1/model.onnx", 0, { QLinearConv: 26 }],
  ["resnet20_cifar10/model.onnx", 0, {}],
  ["googlenet/model.onnx", 0, {}],
  ["vww_mobilenet_v1_025/model.onnx", 0, {}],
  ["vit_tiny/model.onnx", 0, {}],
];

describe.skipIf(sharedFolder === undefined)("quantizing real models (needs the folder RECOUP_SHARED)", () => {
  it.each(cases)(
    "leaves no layer of %s in float",
    async (file, floatLayers, kernels) => {
      const model = readModelFile(sharedPath("assets", "models", file));
      const [feeds, ...others] = samplesFor(model, 3);
      const outcome = await quantizeTestModel(engine, { model, feeds }, { formats: [{ weight: { bits: 4 } }] }, [
        feeds,
        ...others,
      ]);
      const optimized = await optimize(outcome.model);
      const counts = countOperators(optimized);
      expect(countFloatLayers(optimized)).toBe(floatLayers);
      for (const [opType, count] of Object.entries(kernels)) expect([opType, counts[opType]]).toEqual([opType, count]);
      const [exact, shipped] = [
        await runModel(engine, outcome.model, feeds),
        await runShipped(engine, outcome.model, feeds),
      ];
      expect([...shipped.keys()]).toEqual([...exact.keys()]);
    },
    120_000,
  );
});
