import { describe, expect, it } from "vitest";
import { parseRecipe } from "../recipe/recipe.js";
import { renderReport } from "./html.js";
import type { RunReport } from "./run-report.js";

const hostile = `<script>alert("1")</script>`;

const report: RunReport = {
  schemaVersion: 1,
  version: "0.0.0",
  recipe: parseRecipe({ skip: hostile }),
  data: { description: hostile, samples: 2, available: 3, fingerprint: "00" },
  clean: [{ name: "pass", changed: [hostile], skipped: [{ node: hostile, reason: hostile }] }],
  blocks: 1,
  layers: [
    {
      name: hostile,
      opType: "Conv",
      weight: "w",
      shape: [1, 2],
      bits: 4,
      granularity: "channel",
      symmetric: false,
      rounding: "rtn",
      activation: "float",
      weightSqnrDb: Number.POSITIVE_INFINITY,
      remarks: [hostile],
    },
  ],
  skipped: [{ name: hostile, opType: hostile, reason: hostile }],
  activations: [],
  trials: [],
  steps: [
    {
      name: "bc",
      outcome: "layers compensated",
      sites: [
        { label: hostile, kind: "skipped", reason: hostile },
        { label: "fc", kind: "solved", errorBefore: 4, errorAfter: 1 },
      ],
    },
  ],
  warnings: [hostile],
};

const content = {
  report,
  cost: {
    bytes: 10,
    sourceBytes: 40,
    sizeRatio: 0.25,
    latency: { referenceMs: 2, modelMs: 1, ratio: 0.5, referenceLoadMs: 20, modelLoadMs: 30 },
    output: { samples: 2, sqnrDb: 20, agreement: 50, kl: 0.1, brokenSamples: 0, unread: [] },
  },
  elapsedMs: { clean: 1500 },
};

describe("renderReport", () => {
  it("says what was gained, what was left alone and why", () => {
    const page = renderReport("model.onnx", "small.onnx", content);
    for (const words of [
      "40 → 10 bytes (0.250 ×)",
      "agreement 50.00 %",
      "2 of 3 samples",
      "25.0 %",
      "clean 1.5 s",
      "20.0 dB",
      "no error",
    ]) {
      expect(page).toContain(words);
    }
  });

  it("does not call outputs without signal free of error", () => {
    const output = { ...content.cost.output, sqnrDb: Number.NEGATIVE_INFINITY };
    expect(renderReport("a", "b", { ...content, cost: { ...content.cost, output } })).toContain("nats, all error");
  });

  it("lets no name of a model become markup", () => {
    const page = renderReport(hostile, hostile, content);
    expect(page).not.toContain("<script");
    expect(page).toContain("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;");
  });
});
