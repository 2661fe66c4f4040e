import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { Sample, Samples } from "../data/samples.js";
import type { Dimension, Value } from "../graph/graph.js";
import { float32Values, type Tensor } from "../tensor/tensor.js";
import { openDataset } from "./dataset.js";
import { readModelFile } from "./model-file.js";

/** Real data and models; a folder beside the repository, or the one that RECOUP_SHARED names. */
const shared = process.env.RECOUP_SHARED ?? join(dirname(fileURLToPath(import.meta.url)), "../../../shared");
const assets = join(shared, "assets");
const missing = ["imagenet/val", "cifar10/val_images.npy", "coco/val2017", "tinystories/eval.jsonl", "models"]
  .map((name) => join(assets, name))
  .filter((path) => !existsSync(path));

async function open(model: string, data: string, labels?: string): Promise<Samples> {
  const modelFolder = join(assets, "models", model);
  const { graph } = readModelFile(join(modelFolder, "model.onnx"));
  const inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
  return openDataset(join(assets, data), inputs, { modelFolder, labels: labels && join(assets, labels) });
}

async function first(samples: Samples, count = 1): Promise<Sample[]> {
  const read: Sample[] = [];
  for await (const sample of samples.read([...Array(count).keys()])) read.push(sample);
  return read;
}

function tensorOf({ feeds }: Sample): Tensor {
  const [tensor] = feeds.values();
  return tensor;
}

const title =
  missing.length > 0 ? `openDataset on real data (skipped: no ${missing.join(", no ")})` : "openDataset on real data";

describe.runIf(missing.length === 0)(title, () => {
  it("reads a labelled folder of photographs", async () => {
    const samples = await open("squeezenet1_1", "imagenet/val");
    expect(samples.length).toBe(800);
    expect(samples.warnings).toEqual([]);
    const [sample] = await first(samples);
    expect(sample).toMatchObject({ id: "n01440764_tench.jpg", label: 0 });
    expect(tensorOf(sample)).toMatchObject({ type: "float32", shape: [1, 3, 227, 227] });
    // The configuration's mean and std are those of Caffe: pixels less their mean.
    const values = float32Values(tensorOf(sample));
    expect(values.every((value) => value >= -123.01 && value <= 151.01)).toBe(true);
    expect(new Set(values.map(Math.round)).size).toBeGreaterThan(200);
  });

  it("reads pictures and labels from arrays, for both layouts", async () => {
    const cifar = await open("resnet20_cifar10", "cifar10/val_images.npy", "cifar10/val_labels.npy");
    expect(cifar.length).toBe(2000);
    const [sample] = await first(cifar);
    expect(tensorOf(sample).shape).toEqual([1, 3, 32, 32]);
    expect(sample.label).toBeGreaterThanOrEqual(0);
    const words = await open("vww_mobilenet_v1_025", "vww/val_images.npy", "vww/val_labels.npy");
    expect(tensorOf((await first(words))[0]).shape).toEqual([1, 96, 96, 3]);
  });

  it.each([
    ["yolov5n", 640, Math.fround(114 / 255)],
    ["yolox_nano", 416, 114],
  ])("pads photographs to the letterbox of %s", async (model, edge, fill) => {
    const [sample] = await first(await open(model, "coco/val2017"));
    const values = float32Values(tensorOf(sample));
    expect(tensorOf(sample).shape).toEqual([1, 3, edge, edge]);
    // The photograph is wider than high: the last row is padding, and so is the first where it stands in the center.
    expect([...values.slice(-edge)].every((value) => Math.abs(value - fill) < 1e-6)).toBe(true);
    expect([...values.slice(0, edge)].every((value) => Math.abs(value - fill) < 1e-6)).toBe(model === "yolov5n");
  });

  it("reads sequences", async () => {
    const samples = await open("stories260K", "tinystories/eval.jsonl");
    expect(samples.length).toBe(240);
    const [sample] = await first(samples);
    expect(tensorOf(sample)).toMatchObject({ type: "int64" });
    expect(tensorOf(sample).shape[0]).toBe(1);
    expect(tensorOf(sample).shape[1]).toBeGreaterThan(152);
  });

  it("says that photographs do not fit a model of fixed size without a preprocess", async () => {
    const shape: readonly Dimension[] = [1, 3, 224, 224];
    const inputs: readonly Value[] = [{ name: "x", type: { kind: "tensor", elementType: "float32", shape } }];
    const samples = await openDataset(join(assets, "imagenet/val"), inputs);
    await expect(first(samples)).rejects.toMatchObject({ code: "data/mismatch" });
  });
});
