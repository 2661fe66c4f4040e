import { describe, expect, it } from "vitest";
import type { Dimension, Value } from "../graph/graph.js";
import type { ElementType } from "../tensor/element-type.js";
import { float32Tensor, float32Values, int64Tensor, type Tensor, uint8Tensor } from "../tensor/tensor.js";
import { arraySource, feedsSource, isPictureArray, pictureOfArray } from "./array-source.js";
import { type HashParts, samplesFrom } from "./sample-source.js";
import type { Sample, Samples } from "./samples.js";

function input(name: string, elementType: ElementType, shape?: readonly Dimension[]): Value {
  return { name, type: { kind: "tensor", elementType, shape } };
}

/** Not a hash: shows what would be hashed. */
const list: HashParts = async (parts) => {
  const seen: string[] = [];
  for await (const part of parts) seen.push(typeof part === "string" ? part : `${[...part]}`);
  return seen.join(" ");
};

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
  const samples = samplesFrom(arraySource(arrays, "3 samples"), inputs, { labels: [0, 1, 2], hash: list });

  it("gives row i of each array with a batch dimension, in the order asked for", async () => {
    const [first, second] = await readAll(samples, [2, 0]);
    expect(first).toMatchObject({ id: "2", label: 2 });
    expect(first.feeds.get("n")?.shape).toEqual([1]);
    expect([...float32Values(first.feeds.get("x") as Tensor)]).toEqual([5, 6]);
    expect([...float32Values(second.feeds.get("x") as Tensor)]).toEqual([1, 2]);
  });

  it("is named by what is in it", async () => {
    expect(await samples.fingerprint()).toMatch(/^\["x","float32",\[3,2]] 0,0,128,63,.* \["n","int64",\[3]] 7,0,/);
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
    const samples = samplesFrom(arraySource(arrays, ""), taken, { hash: list, file: "a.npz" });
    await expect(readAll(samples, [1])).rejects.toMatchObject({
      code: "data/mismatch",
      place: { file: "a.npz", field },
      message: expect.stringContaining("sample 1"),
    });
  });

  it("takes any size where the model leaves it open, and any shape where it says none", async () => {
    const open = [input("x", "float32", [null, "features"]), input("n", "int64")];
    expect(await readAll(samplesFrom(arraySource(arrays, ""), open, { hash: list }), [0, 1])).toHaveLength(2);
  });
});

describe("feedsSource", () => {
  it("gives the samples it was given", async () => {
    const feeds = [1, 2].map((number) => new Map([["x", float32Tensor([1, 1], [number])]]));
    const samples = samplesFrom(feedsSource(feeds, "2 samples"), [input("x", "float32")], { hash: list });
    expect((await readAll(samples, [1]))[0]).toEqual({ id: "1", feeds: feeds[1] });
    expect(await samples.fingerprint()).toBe('["x","float32",[1,1]] 0,0,128,63 ["x","float32",[1,1]] 0,0,0,64');
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
