import { describe, expect, it } from "vitest";
import { makeTestModel } from "../../test/models.js";
import type { Dimension, Value } from "../graph/graph.js";
import { makeNode } from "../graph/node.js";
import type { ElementType } from "../tensor/element-type.js";
import { float32Tensor, float32Values, floatTensor, int64Tensor, type Tensor, uint8Tensor } from "../tensor/tensor.js";
import { arraySource, feedsSource, isPictureArray, pictureOfArray } from "./array-source.js";
import { samplesFrom } from "./sample-source.js";
import type { Sample, Samples } from "./samples.js";
import { samplesOf } from "./samples-of.js";

function input(name: string, elementType: ElementType, shape?: readonly Dimension[]): Value {
  return { name, type: { kind: "tensor", elementType, shape } };
}

async function readAll(samples: Samples, indices: readonly number[]): Promise<Sample[]> {
  const read: Sample[] = [];
  for await (const sample of samples.read(indices)) read.push(sample);
  return read;
}

const arrays = new Map<string, Tensor>([
  ["x", float32Tensor([3, 2], [1, 2, 3, 4, 5, 6])],
  ["n", int64Tensor([3], [7, 8, 9])],
]);
const inputs = [input("x", "float32", ["batch", 2]), input("n", "int64", ["batch"])];

describe("arraySource", () => {
  const samples = samplesFrom(arraySource(arrays, "3 samples"), inputs, { labels: [0, 1, 2] });

  it("gives row i of each array with a batch dimension, in the order asked for", async () => {
    const [first, second] = await readAll(samples, [2, 0]);
    expect(first).toMatchObject({ id: "2", label: 2 });
    expect(first.feeds.get("n")?.shape).toEqual([1]);
    expect([...float32Values(first.feeds.get("x") as Tensor)]).toEqual([5, 6]);
    expect([...float32Values(second.feeds.get("x") as Tensor)]).toEqual([1, 2]);
  });

  it("has a fingerprint of the samples asked for and of no others", async () => {
    const first = await samples.fingerprint([0, 2]);
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    const x = (values: readonly number[]) => new Map([...arrays, ["x", float32Tensor([3, 2], values)] as const]);
    const printOf = (changed: ReadonlyMap<string, Tensor>) =>
      samplesFrom(arraySource(changed, "others"), inputs).fingerprint([0, 2]);
    expect(await printOf(x([1, 2, 0, 0, 5, 6]))).toBe(first);
    const others = [
      await samples.fingerprint([2, 0]),
      await samples.fingerprint([0]),
      await printOf(x([1, 2, 3, 4, 5, 0])),
      await printOf(new Map([...arrays].map(([name, array]) => [`${name}2`, array]))),
    ];
    expect(new Set([first, ...others]).size).toBe(5);
  });

  it("refuses arrays of different lengths, and numbers that are no array", () => {
    const uneven = new Map([...arrays, ["y", float32Tensor([2], [1, 2])] as const]);
    expect(() => arraySource(uneven, "")).toThrow(expect.objectContaining({ place: { field: "y" } }));
    expect(() => arraySource(new Map([["x", float32Tensor([], [1])]]), "")).toThrow(
      expect.objectContaining({ code: "data/mismatch" }),
    );
  });

  it("refuses an index that is not there, as a defect", async () => {
    await expect(readAll(samples, [3])).rejects.toThrow(RangeError);
  });
});

describe("samplesFrom", () => {
  it.each<[string, readonly Value[], string]>([
    ["another size", [input("x", "float32", ["batch", 5]), inputs[1]], "x"],
    ["another number of axes", [input("x", "float32", ["batch", 2, 1]), inputs[1]], "x"],
    ["another element type", [inputs[0], input("n", "int32", ["batch"])], "n"],
    ["an input that is not fed", [...inputs, input("mask", "bool")], "mask"],
    ["no such input", [inputs[0]], "n"],
  ])("names sample, input and both shapes for %s", async (_, taken, field) => {
    const samples = samplesFrom(arraySource(arrays, ""), taken, { file: "a.npz" });
    await expect(readAll(samples, [1])).rejects.toMatchObject({
      code: "data/mismatch",
      place: { file: "a.npz", field },
      message: expect.stringContaining("sample 1"),
    });
  });

  it("takes any size where the model leaves it open, and any shape where it says none", async () => {
    const open = [input("x", "float32", [null, "features"]), input("n", "int64")];
    expect(await readAll(samplesFrom(arraySource(arrays, ""), open), [0, 1])).toHaveLength(2);
  });
});

describe("samples with values that are not numbers", () => {
  const [nan, infinity] = [Number.NaN, Number.POSITIVE_INFINITY];
  const x = floatTensor("float16", [3, 2], [1, infinity, 3, nan, -infinity, 6]);
  const samples = samplesFrom(arraySource(new Map([["x", x]]), ""), [input("x", "float16")], { file: "a.npy" });
  const refusal = {
    code: "data/not-finite",
    exitCode: 2,
    place: { file: "a.npy", field: "x" },
    message: "sample 1 holds NaN at element 1",
  };

  it("are refused by name where they are read, others are not looked at", async () => {
    expect(await readAll(samples, [2, 0])).toHaveLength(2);
    await expect(readAll(samples, [0, 1])).rejects.toMatchObject(refusal);
    await expect(readAll(samples, [1])).rejects.toMatchObject(refusal);
  });

  it("are refused where a run asks for their fingerprint, before it does anything", async () => {
    await expect(samples.fingerprint([0, 2])).resolves.toMatch(/^[0-9a-f]{64}$/);
    await expect(samples.fingerprint([0, 1])).rejects.toMatchObject(refusal);
  });

  it("are refused among tensors in memory", async () => {
    const { model } = makeTestModel({
      feeds: { x: float32Tensor([1, 2], [0, 0]) },
      nodes: [makeNode("Relu", ["x"], ["y"])],
      outputs: ["y"],
    });
    const given = samplesOf(
      model,
      [1, nan].map((value) => ({ x: float32Tensor([1, 2], [infinity, value]) })),
    );
    await expect(readAll(given, [0, 1])).rejects.toMatchObject({ ...refusal, place: { field: "x" } });
    await expect(given.fingerprint([1])).rejects.toMatchObject({ ...refusal, place: { field: "x" } });
  });
});

describe("feedsSource", () => {
  it("gives the samples it was given", async () => {
    const feeds = [1, 2].map((number) => new Map([["x", float32Tensor([1, 1], [number])]]));
    const samples = samplesFrom(feedsSource(feeds, "2 samples"), [input("x", "float32")]);
    expect((await readAll(samples, [1]))[0]).toEqual({ id: "1", feeds: feeds[1] });
    const [one, two] = await Promise.all([[0], [1]].map(samples.fingerprint));
    expect(one).not.toBe(two);
  });
});

describe("pictureOfArray", () => {
  it("knows stacks of pictures and takes one out", () => {
    const grey = uint8Tensor([2, 1, 2], [1, 2, 3, 4]);
    const color = uint8Tensor([2, 1, 1, 3], [1, 2, 3, 4, 5, 6]);
    expect([grey, color].every(isPictureArray)).toBe(true);
    expect(isPictureArray(uint8Tensor([1, 3, 1, 2], [1, 2, 3, 4, 5, 6]))).toBe(false);
    expect(isPictureArray(float32Tensor([1, 1, 1, 3], [1, 2, 3]))).toBe(false);
    expect(pictureOfArray(grey, 1)).toEqual({ width: 2, height: 1, channels: 1, pixels: Uint8Array.of(3, 4) });
    expect(pictureOfArray(color, 1)).toEqual({ width: 1, height: 1, channels: 3, pixels: Uint8Array.of(4, 5, 6) });
  });
});
