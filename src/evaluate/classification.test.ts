import { describe, expect, it } from "vitest";
import { makeSession } from "../../test/sessions.js";
import type { Sample } from "../data/samples.js";
import { float32Tensor, floatTensor, int64Tensor } from "../tensor/tensor.js";
import { evaluateClassification } from "./classification.js";
import { pairedDifference, wilsonInterval } from "./intervals.js";

/** A sample is the scores of its classes: the models of these tests return what they are fed, changed a little. */
async function* samplesOf(
  ...given: readonly (readonly [scores: readonly number[], label?: number])[]
): AsyncIterable<Sample> {
  for (const [i, [scores, label]] of given.entries()) {
    yield { id: `sample ${i}`, feeds: new Map([["x", float32Tensor([1, scores.length], scores)]]), label };
  }
}

const same = makeSession((scores) => scores);
const options = { labelOffset: 0 };
const six = [
  [[9, 1, 2, 3, 4, 5, 6], 0],
  [[9, 1, 2, 3, 4, 5, 6], 3],
  [[9, 1, 2, 3, 4, 5, 6], 1],
  [[1, 1, 0, 0, 0, 0, 0], 1],
] as const;

describe("evaluateClassification", () => {
  it("counts labels with the largest score and among the five largest", async () => {
    const done: number[] = [];
    const result = await evaluateClassification(same, undefined, samplesOf(...six), {
      ...options,
      onSample: (count) => done.push(count),
    });
    expect(result.n).toBe(4);
    // The first sample only; in the third one, six scores are higher. Of two equal scores the first one counts.
    expect(result.metrics).toEqual({ top1: 25, top5: 75 });
    expect(result.confidence95).toEqual({ top1: wilsonInterval(1, 4), top5: wilsonInterval(3, 4) });
    expect(result.reference).toBeUndefined();
    expect(done).toEqual([1, 2, 3, 4]);
  });

  it("adds an offset to labels", async () => {
    const result = await evaluateClassification(same, undefined, samplesOf([[0, 5, 0], 0]), { labelOffset: 1 });
    expect(result.metrics.top1).toBe(100);
  });

  it("holds a model against a reference on the same samples", async () => {
    // The model gets the first two wrong ways round: one that the reference has right, one that it has wrong.
    const swapped = makeSession((scores) => [scores[1], scores[0], ...scores.slice(2)]);
    const given = samplesOf([[4, 1, 0], 0], [[4, 1, 0], 1], [[0, 1, 4], 2], [[0, 1, 4], 0]);
    const { metrics, reference } = await evaluateClassification(swapped, same, given, options);
    expect(metrics.top1).toBe(50);
    expect(reference?.metrics.top1).toBe(50);
    expect(reference?.agreement).toBe(50);
    expect(reference?.top1Difference.difference).toBe(0);
    expect(reference?.top1Difference).toEqual(pairedDifference(1, 1, 4));
    expect(reference?.kl).toBeGreaterThan(0.5);
  });

  it("finds nothing between a model and itself", async () => {
    const { reference } = await evaluateClassification(same, same, samplesOf(...six), options);
    expect(reference).toMatchObject({ agreement: 100, kl: 0, top1Difference: pairedDifference(0, 0, six.length) });
  });

  it.each([
    [
      "[1, K, 1, 1]",
      makeSession(
        (scores) => scores,
        (values) => float32Tensor([1, values.length, 1, 1], values),
      ),
    ],
    [
      "half precision",
      makeSession(
        (scores) => scores,
        (values) => floatTensor("float16", [1, values.length], values),
      ),
    ],
  ])("reads outputs of %s", async (_about, session) => {
    expect((await evaluateClassification(session, undefined, samplesOf(...six), options)).metrics.top1).toBe(25);
  });

  it("takes a model that returns no numbers for wrong", async () => {
    const broken = makeSession((scores) => scores.map(() => Number.NaN));
    expect((await evaluateClassification(broken, undefined, samplesOf(...six), options)).metrics).toEqual({
      top1: 0,
      top5: 0,
    });
  });

  it.each([
    ["no label", [[[1, 2]]], 0, /has no label/],
    ["a label beyond the classes", [[[1, 2], 2]], 0, /has label 2, the model has 2 classes/],
    ["a label beyond with the offset", [[[1, 2], 1]], 1, /has label 1 \(2 with the offset\)/],
    ["a negative label", [[[1, 2], -1]], 0, /has label -1/],
  ] as const)("refuses %s", async (_about, given, labelOffset, message) => {
    const work = evaluateClassification(same, undefined, samplesOf(...given), { labelOffset });
    await expect(work).rejects.toMatchObject({ code: "data/label", place: { field: "sample 0" } });
    await expect(evaluateClassification(same, undefined, samplesOf(...given), { labelOffset })).rejects.toThrow(
      message,
    );
  });

  it("refuses an empty data set", async () => {
    await expect(evaluateClassification(same, undefined, samplesOf(), options)).rejects.toMatchObject({
      code: "data/empty",
    });
  });

  it("names an output that holds no scores", async () => {
    const indices = makeSession(
      (scores) => scores,
      () => int64Tensor([1], [3]),
    );
    const work = evaluateClassification(indices, undefined, samplesOf(...six), options);
    await expect(work).rejects.toMatchObject({ code: "onnx/tensor", place: { field: "y" } });
  });
});
