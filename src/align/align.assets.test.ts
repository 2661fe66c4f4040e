import { afterAll, describe, expect, it } from "vitest";
import { sharedFolder, sharedPath } from "../../test/shared.js";
import { cleanModel } from "../clean/index.js";
import { raiseOpset } from "../clean/opset/raise-opset.js";
import { oldestTarget } from "../clean/opset/versions.js";
import type { Sample } from "../data/samples.js";
import { inferValueTypes } from "../engine/infer-types.js";
import { opsetOf } from "../graph/model.js";
import { openDataFor, openModel } from "../node/model-source.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { findLayers } from "../operators/index.js";
import { alignModels } from "./align.js";

const engine = createRuntimeEngine({ threads: 2 });
afterAll(() => engine.close());

describe.skipIf(!sharedFolder)("models that onnxruntime's Python quantizer wrote", () => {
  it.each([
    ["resnet20_cifar10-qdq-1image", "cifar10/calib_images.npy"],
    ["vww_mobilenet_v1_025-qdq", "vww/calib_images.npy"],
    ["squeezenet1_1-qoperator", "imagenet/calib"],
    ["vit_tiny-qdq-1image", "imagenet/calib"],
    ["vit_tiny-qdq", "imagenet/calib"],
    ["stories260K-dynamic8", "tinystories/calib.jsonl"],
    ["stories260K-matmulnbits4", "tinystories/calib.jsonl"],
  ])("%s is aligned with its float model, every layer of it, and comes back as it was", async (name, data) => {
    const source = openModel(sharedPath(`assets/models/${name.split("-")[0]}/model.onnx`));
    const quantized = openModel(sharedPath(`assets/peer-models/${name}.onnx`)).model;
    const { model: cleaned } = await cleanModel(source.model, { engine });
    const float = raiseOpset(cleaned, Math.max(oldestTarget, opsetOf(quantized)));
    const types = await inferValueTypes(engine, float);
    const samples = await openDataFor(source, sharedPath(`assets/${data}`));
    const batches: Sample[] = [];
    for await (const sample of samples.read([0, 1])) batches.push(sample);
    const aligned = await alignModels({ engine, float, types, quantized, batches });
    const { layers } = findLayers(float.graph, types);
    const lost = layers.filter(({ node }) => !aligned.values.has(node.outputs[0]));
    expect(lost.map(({ node }) => node.name)).toEqual([]);
    const { nodes } = aligned.restore(aligned.model.graph);
    expect(nodes.filter((node, i) => node === quantized.graph.nodes[i])).toHaveLength(quantized.graph.nodes.length);
  });
});
