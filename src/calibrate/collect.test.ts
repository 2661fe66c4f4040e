import { afterAll, describe, expect, it } from "vitest";
import { makeBody, makeIf, makeTestModel, refusing, someFloats, yes } from "../../test/models.js";
import { makePair, nameOf, samples } from "../../test/statistic-contract.js";
import type { NamedFeeds } from "../engine/batch.js";
import { makeNode } from "../graph/node.js";
import { createRuntimeEngine } from "../node/runtime-engine.js";
import { float32Tensor, floatTensor } from "../tensor/tensor.js";
import { collect } from "./collect.js";
import { observe } from "./observe.js";
import { OutputErrorStatistic } from "./output-error.js";
import { RangeStatistic } from "./range.js";
import { SignalNoiseStatistic } from "./signal-noise.js";

const engine = createRuntimeEngine({ threads: 1 });
afterAll(() => engine.close());

const extremesOfY = new Map([["y", "extremes"]] as const);
const rangeOf = (value: string) => new RangeStatistic({ from: "float", value });

async function* feed(...tensors: readonly ReturnType<typeof float32Tensor>[]): AsyncIterable<NamedFeeds> {
  for (const [i, x] of tensors.entries()) yield { id: `sample ${i}`, feeds: new Map([["x", x]]) };
}

describe("collect", () => {
  it("runs only what the statistics look at", async () => {
    const { model } = makeTestModel({
      feeds: { x: float32Tensor([2], [1, -2]), z: float32Tensor([2], [5, 5]) },
      nodes: [
        makeNode("Neg", ["x"], ["a"]),
        makeNode("Erf", ["a"], ["b"]),
        makeNode("Add", ["b", "z"], ["y"]),
        makeNode("Abs", ["x"], ["c"]),
      ],
      outputs: ["y"],
    });
    const cheap = refusing(engine, "Erf", "Add", "Abs");
    const statistic = rangeOf("a");
    // The input `z` is not fed at all: nothing that is looked at reads it.
    await collect(cheap, model, [statistic], (tap) => tap.value, feed(float32Tensor([2], [1, -2])));
    expect(statistic.result()).toEqual({ low: -1, high: 2 });
    expect(cheap.opened).toBe(1);
  });

  it("looks at inputs, outputs and what bodies read", async () => {
    const body = makeBody(["b"], [makeNode("Add", ["a", "a"], ["b"])]);
    const { model } = makeTestModel({
      feeds: { x: float32Tensor([2], [1, -2]), c: yes },
      nodes: [makeNode("Neg", ["x"], ["a"]), makeIf("y", body, body)],
      outputs: ["y"],
    });
    const values = ["x", "a", "y"];
    const feeds = new Map([
      ["x", float32Tensor([2], [1, -2])],
      ["c", yes],
    ]);
    const details = new Map(values.map((value) => [value, "extremes"] as const));
    const seen = await observe(engine, model, details, one({ id: "", feeds }), () => {});
    expect([...seen.result()].map(([value, { extremes }]) => [value, extremes])).toEqual([
      ["x", { low: -2, high: 1 }],
      ["a", { low: -1, high: 2 }],
      ["y", { low: -2, high: 4 }],
    ]);
  });

  it("collects equal keys once", async () => {
    const statistics = [rangeOf("y"), rangeOf("y")];
    const model = makePair("float32");
    const opened: number[] = [];
    const counting = {
      ...refusing(engine),
      open: (given: typeof model) => {
        opened.push(given.graph.outputs.length);
        return engine.open(given);
      },
    };
    await collect(counting, model, statistics, nameOf, samples);
    expect(opened).toEqual([3]);
  });

  it("gives each of equal keys the result, and one that is named twice no sample twice", async () => {
    const make = () => new OutputErrorStatistic({ output: "y", rank: 3, channelAxis: 1 });
    const [first, second, alone] = [make(), make(), make()];
    const other = rangeOf("y");
    const model = makePair("float32");
    await collect(engine, model, [first, other, second, first], nameOf, samples);
    await collect(engine, model, [alone], nameOf, samples);
    expect(first.result()).toEqual(alone.result());
    expect(second.result()).toEqual(alone.result());
  });

  it("counts batches, and says which sample an error is in", async () => {
    const good = float32Tensor([3], [1, 2, 3]);
    const { model } = makeTestModel({ feeds: { x: good }, nodes: [makeNode("Neg", ["x"], ["y"])], outputs: ["y"] });
    let count = 0;
    const bad = float32Tensor([3], [1, Number.NaN, 3]);
    const work = observe(engine, model, extremesOfY, feed(good, good, bad, good), () => count++);
    await expect(work).rejects.toMatchObject({ code: "model/not-finite", place: { file: "sample 2", field: "y" } });
    expect(count).toBe(2);
  });

  it("does not open a session for nothing", async () => {
    const none = refusing(engine);
    expect((await observe(none, makePair("float32"), new Map(), feed(), () => {})).result().size).toBe(0);
    expect(none.opened).toBe(0);
  });
});

describe("RangeStatistic", () => {
  const { model } = makeTestModel({
    feeds: { x: someFloats([1, 40]) },
    shapes: { x: ["n", 40] },
    nodes: [makeNode("Neg", ["x"], ["y"])],
    outputs: ["y"],
  });
  const collected = (...tensors: readonly ReturnType<typeof float32Tensor>[]) =>
    observe(engine, model, extremesOfY, feed(...tensors), () => {}).then((seen) => seen.result().get("y")?.extremes);
  const numbers = (change: (value: number) => number) =>
    float32Tensor(
      [1, 40],
      Array.from({ length: 40 }, (_, i) => change(i)),
    );

  it.each([0, 1, 7, 8, 31, 39])("refuses NaN at place %i", async (place) => {
    const tensor = numbers((i) => (i === place ? Number.NaN : i));
    await expect(collected(tensor)).rejects.toMatchObject({ code: "model/not-finite" });
  });

  it.each([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("refuses %f", async (value) => {
    const tensor = numbers((i) => (i === 20 ? value : i));
    await expect(collected(tensor)).rejects.toMatchObject({ code: "model/not-finite" });
  });

  it("takes numbers whose sum is too large", async () => {
    const large = Math.fround(3e38);
    expect(await collected(numbers((i) => (i < 20 ? large : -large)))).toEqual({ low: -large, high: large });
    expect(await collected(numbers(() => large))).toEqual({ low: -large, high: -large });
  });

  it("is the empty range where there is nothing", async () => {
    const nothing = { low: Number.POSITIVE_INFINITY, high: Number.NEGATIVE_INFINITY };
    expect(rangeOf("y").result()).toEqual(nothing);
    expect(await collected(float32Tensor([0, 40], []))).toEqual(nothing);
  });

  it("sums of half precision do not overflow", async () => {
    const half = floatTensor("float16", [1, 40], new Array(40).fill(60000));
    const halves = makeTestModel({
      feeds: { x: half },
      nodes: [makeNode("Identity", ["x"], ["y"])],
      outputs: ["y"],
    });
    const seen = await observe(engine, halves.model, extremesOfY, feed(half), () => {});
    expect(seen.result().get("y")?.extremes).toEqual({ low: 60000, high: 60000 });
  });
});

describe("SignalNoiseStatistic", () => {
  it("is nothing over no samples", () => {
    expect(new SignalNoiseStatistic("y").result()).toEqual({ signal: 0, noise: 0 });
  });
});

async function* one(batch: NamedFeeds): AsyncIterable<NamedFeeds> {
  yield batch;
}
