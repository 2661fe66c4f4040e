import { describe, expect, it } from "vitest";
import { makeSession } from "../../test/sessions.js";
import type { Sample } from "../data/samples.js";
import type { Session } from "../engine/engine.js";
import { divergence } from "../evaluate/outputs.js";
import { float32Tensor, floatTensor, int64Tensor, type Tensor } from "../tensor/tensor.js";
import { compareLatency, compareOutputs, warnOfOutputs } from "./outputs.js";

const sample = (...values: readonly number[]): Sample => ({
  id: "",
  feeds: new Map([["x", float32Tensor([1, values.length], values)]]),
});

async function* all(...samples: readonly Sample[]): AsyncIterable<Sample> {
  yield* samples;
}

const same = makeSession((values) => values);
const two = [sample(1, 2, 3, 4), sample(8, 7, 6, 5)];

/** A session that returns what it is told, whatever it is fed. */
function returning(outputs: Readonly<Record<string, Tensor>>): Session {
  const values = Object.keys(outputs).map((name) => ({ name, type: { kind: "other" } as const }));
  const run = async () => ({ outputs: new Map(Object.entries(outputs)), elapsedMs: 1 });
  return { ...same, outputs: values, run };
}

describe("compareOutputs", () => {
  it("finds nothing between a model and itself", async () => {
    expect(await compareOutputs(same, same, all(...two))).toEqual({
      samples: 2,
      sqnrDb: Number.POSITIVE_INFINITY,
      agreement: 100,
      kl: 0,
      brokenSamples: 0,
      unread: [],
    });
  });

  it("names the outputs that no runtime hands over, and compares the others", async () => {
    const [text, numbers] = ["text", "numbers"].map((name) => ({ name, type: { kind: "other" } }) as const);
    const some: Session = { ...returning({ numbers: float32Tensor([2], [1, 2]) }), outputs: [text, numbers] };
    const found = await compareOutputs(some, some, all(sample(0)));
    expect(found).toMatchObject({ agreement: 100, sqnrDb: Number.POSITIVE_INFINITY, unread: ["text"] });
    expect(warnOfOutputs(found)).toEqual([expect.stringMatching(/not compared: text$/)]);
  });

  it("counts samples that lost their numbers, and says so", async () => {
    const broken = makeSession(([a, ...rest]) => [a > 5 ? Number.NaN : a, ...rest]);
    const found = await compareOutputs(same, broken, all(...two));
    expect(found).toMatchObject({ samples: 2, sqnrDb: Number.NEGATIVE_INFINITY, brokenSamples: 1 });
    expect(warnOfOutputs(found)).toEqual([expect.stringContaining("NaN or infinity")]);
    expect(warnOfOutputs(await compareOutputs(broken, broken, all(...two)))).toEqual([]);
  });

  it("adds up over samples", async () => {
    let done = 0;
    const other = makeSession(([a, b, c, d]) => [a, b, d, c]);
    const found = await compareOutputs(same, other, all(...two), () => done++);
    const signal = 2 * (1 + 4 + 9 + 16) - 0 + (64 + 49 + 36 + 25) - (1 + 4 + 9 + 16);
    expect(found.sqnrDb).toBeCloseTo(10 * Math.log10(signal / 4), 9);
    expect(found.agreement).toBe(50);
    const [left, right] = [Float32Array.of(1, 2, 3, 4), Float32Array.of(1, 2, 4, 3)];
    const late = [Float32Array.of(8, 7, 6, 5), Float32Array.of(8, 7, 5, 6)] as const;
    expect(found.kl).toBeCloseTo((divergence(left, right) + divergence(...late)) / 2, 12);
    expect(done).toBe(2);
  });

  it.each([
    ["[tokens, words]", [1, 2, 3], 50],
    ["[words, 1, 1]", [1, 6, 1, 1], 0],
  ])("takes rows of %s", async (_about, shape, agreement) => {
    const left = returning({ y: float32Tensor(shape, [1, 2, 3, 9, 2, 1]) });
    const right = returning({ y: float32Tensor(shape, [1, 2, 3, 1, 2, 9]) });
    expect((await compareOutputs(left, right, all(sample(0)))).agreement).toBe(agreement);
  });

  it("compares all float outputs, and the classes of the first one", async () => {
    const left = returning({ n: int64Tensor([1], [1]), a: float32Tensor([2], [3, 0]), b: float32Tensor([1], [4]) });
    const right = returning({ b: float32Tensor([1], [4.5]), a: float32Tensor([2], [3, 0]), n: int64Tensor([1], [7]) });
    const found = await compareOutputs(left, right, all(sample(0)));
    expect(found).toMatchObject({ agreement: 100, kl: 0 });
    expect(found.sqnrDb).toBeCloseTo(10 * Math.log10(25 / 0.25), 9);
  });

  it("goes by the place of an output that was renamed, and leaves out what does not fit", async () => {
    const left = returning({ a: float32Tensor([2], [3, 4]), b: float32Tensor([2], [1, 1]) });
    const right = returning({ y: floatTensor("float16", [2], [3, 4]), z: float32Tensor([3], [1, 1, 1]) });
    expect(await compareOutputs(left, right, all(sample(0)))).toMatchObject({ agreement: 100, kl: 0 });
  });

  it("refuses an empty data set", async () => {
    await expect(compareOutputs(same, same, all())).rejects.toMatchObject({ code: "data/empty" });
    await expect(compareLatency(same, same, [])).rejects.toMatchObject({ code: "data/empty" });
  });
});

describe("compareLatency", () => {
  /** Every so many runs takes long, as after the other model's turn. */
  function timed(elapsedMs: number) {
    const session = { runs: 0, ...same };
    session.run = async () => {
      session.runs++;
      return { outputs: new Map(), elapsedMs: session.runs % 31 === 2 ? 50 * elapsedMs : elapsedMs };
    };
    return session;
  }

  it("is the ratio of the medians, in turns of about the same time", async () => {
    const [reference, model] = [Object.assign(timed(1), { loadMs: 5 }), Object.assign(timed(3), { loadMs: 7 })];
    expect(await compareLatency(reference, model, two)).toEqual({
      referenceMs: 1,
      modelMs: 3,
      ratio: 3,
      referenceLoadMs: 5,
      modelLoadMs: 7,
    });
    expect(reference.runs).toBe(12 * 31);
    expect(model.runs).toBe(12 * 11);
  });

  it("runs slow models a few times and fast ones not for ever", async () => {
    const [slow, fast] = [timed(1000), timed(0.001)];
    await compareLatency(slow, fast, two);
    expect([slow.runs, fast.runs]).toEqual([12 * 5, 12 * 401]);
  });
});
