import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { largestDifference, runModel, someFloats } from "../../test/models.js";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import type { Feeds } from "../engine/engine.js";
import type { Value } from "../graph/graph.js";
import type { Model } from "../graph/model.js";
import { readModelFile, writeModelFile } from "../node/model-file.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Values, int64Tensor, type Tensor } from "../tensor/tensor.js";
import { cleanModel } from "./index.js";
import { raiseOpset } from "./opset/raise-opset.js";

const engine = createRuntimeEngine({ threads: 2 });
const folder = mkdtempSync(join(tmpdir(), "recoup-clean-"));
afterAll(async () => {
  await engine.close();
  rmSync(folder, { recursive: true });
});

/** Nodes and normalizations that are left. */
const models: readonly (readonly [file: string, nodes: number])[] = [
  ["googlenet/model.onnx", 141],
  ["resnet20_cifar10/model.onnx", 56],
  ["resnet20_cifar10/model_bn.onnx", 56],
  ["squeezenet1_1/model.onnx", 65],
  ["stories260K/model.onnx", 463],
  ["vit_tiny/model.onnx", 378],
  ["vww_mobilenet_v1_025/model.onnx", 61],
  ["yolov5n/model.onnx", 233],
  ["yolox_nano/model.onnx", 369],
];

/** Open sizes are 2; tokens are below the vocabulary of 512. */
function feedFor({ name, type }: Value): Tensor {
  const shape = type.kind === "tensor" ? (type.shape ?? []).map((size) => (typeof size === "number" ? size : 2)) : [];
  const floats = someFloats(shape, name.length);
  if (type.kind === "tensor" && type.elementType === "float32") return floats;
  return int64Tensor(
    shape,
    Array.from(float32Values(floats), (value) => Math.floor((value + 1) * 255)),
  );
}

function feedsFor(model: Model): Feeds {
  return new Map(model.graph.inputs.map((input) => [input.name, feedFor(input)] as const));
}

/** Every model of the assets, those included that other tools have quantized. */
const files =
  sharedFolder === undefined
    ? []
    : readdirSync(sharedPath("assets"), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".onnx"));

describe.skipIf(sharedFolder === undefined)(
  "real models after load, clean and save (needs the folder RECOUP_SHARED)",
  () => {
    it.each(files)("%s computes what it did, within 1e-4 of its largest output", async (file) => {
      const model = readModelFile(sharedPath("assets", file));
      const saved = join(folder, "saved.onnx");
      writeModelFile(saved, (await cleanModel(model, { engine })).model);
      const feeds = feedsFor(model);
      const [before, after] = [
        await runModel(engine, model, feeds),
        await runModel(engine, readModelFile(saved), feeds),
      ];
      const difference = largestDifference(before, after);
      console.log(`${file}: ${difference.toExponential(1)}`);
      expect(difference).toBeLessThan(1e-4);
    });
  },
);

describe.skipIf(sharedFolder === undefined)("cleaning real models (needs the folder RECOUP_SHARED)", () => {
  it.each(models)(
    "keeps what %s computes",
    async (file, nodes) => {
      const model = readModelFile(sharedPath("assets", "models", file));
      const cleaned = await cleanModel(model, { engine });
      const feeds = feedsFor(model);
      const [before, after] = [await runModel(engine, model, feeds), await runModel(engine, cleaned.model, feeds)];
      expect(largestDifference(before, after)).toBeLessThan(1e-4);
      expect(cleaned.model.graph.nodes).toHaveLength(nodes);
      expect(cleaned.model.graph.nodes.filter((node) => node.opType === "BatchNormalization")).toEqual([]);
      expect(cleaned.model.graph.inputs).toEqual(model.graph.inputs);
      expect(cleaned.model.graph.outputs.map((output) => output.name)).toEqual(
        model.graph.outputs.map((output) => output.name),
      );
      const raised = raiseOpset(cleaned.model, 25);
      expect(largestDifference(before, await runModel(engine, raised, feeds))).toBeLessThan(1e-4);
    },
    60_000,
  );
});
