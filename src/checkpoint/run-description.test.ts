import { describe, expect, it } from "vitest";
import { parseRecipe, type RecipeInput } from "../recipe/recipe.js";
import { jsonOf, type RunDescription, refuseOtherRun } from "./run-description.js";

const describeRun = (recipe: RecipeInput = {}, change: Partial<RunDescription> = {}): RunDescription => ({
  version: "1.2.3",
  model: "a".repeat(64),
  recipe: parseRecipe(recipe),
  data: "b".repeat(64),
  statistics: null,
  batchSize: 16,
  engine: "onnxruntime-node",
  ...change,
});
const before = describeRun({ formats: [{ weight: { bits: 3 } }], steps: ["bc"] });
const there = jsonOf(before);

describe("refuseOtherRun", () => {
  it("lets the same run go on", () => {
    expect(() =>
      refuseOtherRun(there, describeRun({ formats: [{ weight: { bits: 3 } }], steps: ["bc"] })),
    ).not.toThrow();
  });

  const bits = (weight: object) => ({ formats: [{ weight }], steps: ["bc"] }) as RecipeInput;
  it.each<readonly [field: string, message: string, here: RunDescription]>([
    ["formats[0].weight.bits", "is 4 now, was 3", describeRun(bits({ bits: 4 }))],
    ["formats[0].weight.symmetric", "is true now, was not given", describeRun(bits({ bits: 3, symmetric: true }))],
    ["formats[0].weight.rounding.use", "is gptq now, was rtn", describeRun(bits({ bits: 3, rounding: "gptq" }))],
    ["formats[0].weight", "is float now, was", describeRun({ formats: [{ weight: "float" }], steps: ["bc"] })],
    ["steps", 'is [] now, was [{"use":"bc",', describeRun({ formats: [{ weight: { bits: 3 } }] })],
    ["seed", "is 5 now, was 0", describeRun({ ...bits({ bits: 3 }), seed: 5 })],
    ["version", "is 1.2.4 now, was 1.2.3", { ...before, version: "1.2.4" }],
    ["model", "is another one now", { ...before, model: "c".repeat(64) }],
    ["data", "are other samples now", { ...before, data: "c".repeat(64) }],
    ["statistics", "are others now", { ...before, statistics: "c".repeat(64) }],
    ["batchSize", "is 1 now, was 16", { ...before, batchSize: 1 }],
    ["engine", "is another now, was onnxruntime-node", { ...before, engine: "another" }],
    ["version", "is 2 now, was 1.2.3", describeRun({}, { version: "2", model: "c".repeat(64), batchSize: 1 })],
  ])("names %s: %s", (field, message, here) => {
    expect(() => refuseOtherRun(there, here)).toThrow(
      expect.objectContaining({
        code: "checkpoint/mismatch",
        exitCode: 2,
        place: { field },
        message: expect.stringContaining(message),
      }),
    );
  });

  it.each([[null], [[]], ["a run"], [{}]])("refuses what is no description: %j", (other) => {
    expect(() => refuseOtherRun(other, before)).toThrow(expect.objectContaining({ code: "checkpoint/mismatch" }));
  });

  it("shows a long value in part", () => {
    const skip = Array.from({ length: 40 }, (_, i) => `layer${i}`);
    expect(() => refuseOtherRun(there, describeRun({ ...bits({ bits: 3 }), skip }))).toThrow(
      /^is \["layer0".{1,60}… now, was \[\]$/,
    );
  });
});
