import { afterAll, describe, expect, it } from "vitest";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { cleanModel } from "../clean/index.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { readModelFile } from "../node/model-file.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { findLayers } from "../operators/index.js";
import { findLayerBlocks } from "./layer-blocks.js";

const engine = createRuntimeEngine({ threads: 2 });
afterAll(() => engine.close());

/** How many blocks there are at least, and how many values a cut consists of on average at most. */
const models = [
  ["resnet20_cifar10/model.onnx", 10, 1],
  ["resnet20_cifar10/model_bn.onnx", 10, 1],
  ["squeezenet1_1/model.onnx", 16, 1],
  ["googlenet/model.onnx", 12, 1],
  ["vww_mobilenet_v1_025/model.onnx", 25, 1],
  ["vit_tiny/model.onnx", 25, 1],
  ["yolov5n/model.onnx", 25, 3],
  ["yolox_nano/model.onnx", 40, 3],
  // Ten inputs hold what earlier tokens left, and rotary tables and a mask go through all layers.
  ["stories260K/model.onnx", 10, 20],
] as const;

describe.skipIf(!sharedFolder)("blocks of real models", () => {
  it.each(models)("%s", async (path, fewest, mostLive) => {
    const { model } = await cleanModel(readModelFile(sharedPath("assets", "models", path)), { engine });
    const types = await inferValueTypes(engine, model);
    const layers = findLayers(model.graph, types).layers.map((layer) => layer.node);
    const blocks = findLayerBlocks(model.graph, types, layers);
    const live = blocks.slice(0, -1).map((block) => block.outputs.length);
    const width = live.reduce((sum, count) => sum + count, 0) / live.length;
    expect(blocks.length).toBeGreaterThanOrEqual(fewest);
    expect(width).toBeLessThanOrEqual(mostLive);
    expect(blocks.flatMap((block) => block.nodes)).toEqual(model.graph.nodes);
  });
});
