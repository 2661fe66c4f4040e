import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readModelFile } from "../src/node/model-file.js";
import { recoup } from "./command-line.js";
import { sharedFolder, sharedPath } from "./shared.js";

const folder = mkdtempSync(join(tmpdir(), "recoup-real-"));
afterAll(() => rmSync(folder, { recursive: true }));

const asset = (path: string) => sharedPath("assets", path);
const model = (path: string) => asset(`models/${path}`);
const at = (name: string) => join(folder, name);

const imagenet = { calibration: "imagenet/calib", data: ["imagenet/val"] };
const cifar = { calibration: "cifar10/calib_images.npy", data: ["cifar10/val_images.npy", "cifar10/val_labels.npy"] };
const vww = { calibration: "vww/calib_images.npy", data: ["vww/val_images.npy", "vww/val_labels.npy"] };

async function quantize(source: string, output: string, calibration: string, ...flags: readonly string[]) {
  const done = await recoup("quantize", model(source), "-o", output, "--data", asset(calibration), "--json", ...flags);
  expect(done).toMatchObject({ exitCode: 0 });
  return JSON.parse(done.stdout);
}

async function evaluate(path: string, source: string, [data, labels]: readonly string[]) {
  const flags = labels === undefined ? [] : ["--labels", asset(labels)];
  const reference = ["--reference", model(source), "--json"];
  const done = await recoup(
    "evaluate",
    path,
    "--task",
    "classification",
    "--data",
    asset(data),
    ...flags,
    ...reference,
  );
  expect(done).toMatchObject({ exitCode: 0 });
  return JSON.parse(done.stdout);
}

describe.skipIf(sharedFolder === undefined)("real models (needs the folder RECOUP_SHARED)", () => {
  // On vww, 500 pictures, plain rounding loses 1.2 points.
  it.each([
    ["vit_tiny/model.onnx", 64, "none", 1, imagenet],
    ["googlenet/model.onnx", 128, "none", 0.7, imagenet],
    ["squeezenet1_1/model.onnx", 128, "none", 1, imagenet],
    ["resnet20_cifar10/model.onnx", 128, "none", 0.5, cifar],
    ["resnet20_cifar10/model_bn.onnx", 128, "none", 0.5, cifar],
    ["vww_mobilenet_v1_025/model.onnx", 128, "bc", 1, vww],
  ] as const)(
    "%s at 8 bits with %d samples, steps %s, loses at most %d points",
    async (source, samples, steps, most, { calibration, data }) => {
      const flags = ["--samples", String(samples), ...(steps === "none" ? [] : ["--steps", steps])];
      await quantize(source, at("8.onnx"), calibration, ...flags);
      const { reference } = await evaluate(at("8.onnx"), source, data);
      expect(reference.top1Difference.difference).toBeGreaterThanOrEqual(-most);
    },
  );

  it.each([
    ["squeezenet1_1/model.onnx", imagenet],
    ["resnet20_cifar10/model.onnx", cifar],
    ["vww_mobilenet_v1_025/model.onnx", vww],
  ] as const)("bias compensation brings %s at 4 bits nearer to the original", async (source, { calibration, data }) => {
    const divergences: number[] = [];
    for (const steps of [[], ["--steps", "bc"]]) {
      await quantize(source, at("4.onnx"), calibration, "--weights", "4", ...steps);
      divergences.push((await evaluate(at("4.onnx"), source, data)).reference.kl);
    }
    expect(divergences[1]).toBeLessThan(divergences[0]);
  });

  it.each([
    ["vit_tiny/model.onnx", { 4: 0.15, 3: 0.12, 2: 0.09 }],
    ["googlenet/model.onnx", { 4: 0.15, 3: 0.12, 2: 0.09 }],
  ])("%s is as small as its bits say", async (source, most) => {
    for (const [bits, ratio] of Object.entries(most)) {
      const { cost } = await quantize(source, at("s.onnx"), imagenet.calibration, "--weights", bits, "--samples", "2");
      expect(cost.sizeRatio).toBeLessThanOrEqual(ratio);
      expect(cost.bytes).toBe(statSync(at("s.onnx")).size);
    }
  });

  it.each([
    ["yolox_nano/model.onnx", "coco/calib"],
    ["yolov5n/model.onnx", "coco/calib"],
    ["stories260K/model.onnx", "tinystories/calib.jsonl"],
  ])("%s is quantized, loaded and run", async (source, calibration) => {
    for (const flags of [[], ["--weights", "4", "--activations", "none"]]) {
      const { cost, layers } = await quantize(source, at("any.onnx"), calibration, "--samples", "4", ...flags);
      expect(layers.length).toBeGreaterThan(10);
      expect(cost.output.samples).toBe(4);
      expect(cost.output.sqnrDb).toBeGreaterThan(3);
    }
  });

  it("an embedding that is the last layer's weight too stays one tensor", async () => {
    await quantize(
      "stories260K/model.onnx",
      at("tied.onnx"),
      "tinystories/calib.jsonl",
      "--weights",
      "8",
      "--samples",
      "2",
    );
    const { graph } = readModelFile(at("tied.onnx"));
    const tables = [...graph.initializers.values()].filter((tensor) => tensor.shape.join() === "512,64");
    expect(tables.map((tensor) => tensor.type)).toEqual(["int8"]);
  });

  it("knows the perplexity of a language model, and what 4 bits cost it", async () => {
    const source = "stories260K/model.onnx";
    const flags = ["--weights", "4", "--activations", "none", "--granularity", "group:32", "--samples", "4"];
    await quantize(source, at("lm.onnx"), "tinystories/calib.jsonl", ...flags);
    const data = ["--task", "perplexity", "--data", asset("tinystories/eval.jsonl"), "--json"];
    const { stdout } = await recoup("evaluate", at("lm.onnx"), "--reference", model(source), ...data);
    const { n, tokens, metrics, reference, kl } = JSON.parse(stdout);
    expect([n, tokens]).toEqual([240, 60683]);
    expect(reference.metrics.perplexity).toBeCloseTo(4.788, 3);
    expect(metrics.perplexity).toBeLessThan(5.5);
    expect(kl).toBeGreaterThan(0);
  });

  it("gives the same bytes again, whatever the number of threads", async () => {
    const flags = ["--weights", "4", "--steps", "bc", "--samples", "16"];
    const outputs = [];
    for (const threads of ["1", "2", "2"]) {
      await quantize("squeezenet1_1/model.onnx", at("t.onnx"), imagenet.calibration, ...flags, "--threads", threads);
      outputs.push(readFileSync(at("t.onnx")));
    }
    expect(outputs[1].equals(outputs[0])).toBe(true);
    expect(outputs[2].equals(outputs[0])).toBe(true);
  });
});
