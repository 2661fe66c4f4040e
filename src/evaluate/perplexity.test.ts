import { describe, expect, it } from "vitest";
import type { Sample } from "../data/samples.js";
import type { Session } from "../engine/engine.js";
import { float32Tensor, int64Tensor } from "../tensor/tensor.js";
import { evaluatePerplexity } from "./perplexity.js";

const sequence = (...tokens: readonly number[]): Sample => ({
  id: tokens.join(" "),
  feeds: new Map([["input_ids", int64Tensor([1, tokens.length], tokens)]]),
});

async function* all(...samples: readonly Sample[]): AsyncIterable<Sample> {
  yield* samples;
}

/** A model of three words that gives the word of a token the same logits wherever it stands. */
function modelOf(logits: readonly (readonly number[])[]): Session {
  const value = { type: { kind: "tensor", elementType: "float32" } } as const;
  return {
    inputs: [{ name: "input_ids", ...value }],
    outputs: [{ name: "logits", ...value }],
    loadMs: 1,
    async run(feeds) {
      const ids = feeds.get("input_ids");
      if (ids === undefined || "held" in ids) throw new Error("no ids");
      const tokens = Array.from(new BigInt64Array(ids.bytes().slice().buffer), Number);
      const values = tokens.flatMap((token) => logits[token] ?? logits[0]);
      return {
        outputs: new Map([["logits", float32Tensor([1, tokens.length, logits[0].length], values)]]),
        elapsedMs: 1,
      };
    },
    runAndHold: async () => new Map(),
    close: async () => {},
  };
}

const even = modelOf([
  [0, 0, 0],
  [0, 0, 0],
  [0, 0, 0],
]);
const sure = modelOf([
  [0, Math.log(8), 0],
  [0, 0, Math.log(8)],
  [Math.log(8), 0, 0],
]);

describe("evaluatePerplexity", () => {
  it("is the number of words for a model that knows nothing", async () => {
    const found = await evaluatePerplexity(even, undefined, all(sequence(0, 1, 2), sequence(2, 2)));
    expect(found.metrics.perplexity).toBeCloseTo(3, 6);
    expect([found.n, found.tokens]).toEqual([2, 3]);
  });

  it("takes the first token for context and each sequence on its own", async () => {
    // Of ten words eight are the right one, so each token costs log(10/8).
    const found = await evaluatePerplexity(sure, undefined, all(sequence(0, 1, 2, 0), sequence(1, 2)));
    expect(found.metrics.perplexity).toBeCloseTo(10 / 8, 6);
    expect(found.confidence95.perplexity.map((end) => end.toFixed(3))).toEqual(["1.250", "1.250"]);
  });

  it("weighs tokens, not sequences", async () => {
    const found = await evaluatePerplexity(sure, undefined, all(sequence(0, 1, 2, 0), sequence(1, 0)));
    const losses = [3 * Math.log(10 / 8), Math.log(10)];
    expect(Math.log(found.metrics.perplexity)).toBeCloseTo((losses[0] + losses[1]) / 4, 6);
    const [low, high] = found.confidence95.perplexity;
    expect(low).toBeLessThan(found.metrics.perplexity);
    expect(high).toBeGreaterThan(found.metrics.perplexity);
  });

  it("holds a model against a reference, token by token", async () => {
    const { reference } = await evaluatePerplexity(even, sure, all(sequence(0, 1, 2), sequence(2, 0)));
    expect(reference?.metrics.perplexity).toBeCloseTo(10 / 8, 6);
    // The first of equal words counts as the most likely one: right behind token 2 only.
    expect(reference?.agreement).toBeCloseTo(100 / 3, 6);
    const share = [0.8, 0.1, 0.1];
    expect(reference?.kl).toBeCloseTo(
      share.reduce((sum, p) => sum + p * Math.log(3 * p), 0),
      6,
    );
  });

  it.each([
    ["one token", sequence(1), "data/mismatch"],
    ["a token that is no word", sequence(0, 3), "data/mismatch"],
    ["no ids", { id: "x", feeds: new Map([["x", float32Tensor([1], [1])]]) }, "data/mismatch"],
    ["two sequences", { id: "x", feeds: new Map([["input_ids", int64Tensor([2, 2], [0, 1, 1, 0])]]) }, "data/mismatch"],
  ])("refuses %s", async (_about, sample, code) => {
    await expect(evaluatePerplexity(sure, undefined, all(sample))).rejects.toMatchObject({ code });
  });

  it("refuses outputs that are no logits, and no samples", async () => {
    const odd = {
      ...sure,
      run: async () => ({ outputs: new Map([["logits", float32Tensor([1, 5], [1, 2, 3, 4, 5])]]), elapsedMs: 1 }),
    };
    await expect(evaluatePerplexity(odd, undefined, all(sequence(0, 1)))).rejects.toMatchObject({
      code: "engine/run",
      place: { field: "logits" },
    });
    await expect(evaluatePerplexity(sure, undefined, all())).rejects.toMatchObject({ code: "data/empty" });
  });
});
