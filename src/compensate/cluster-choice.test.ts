import { describe, expect, it } from "vitest";
import { createRandom } from "../math/random.js";
import { type ClusterSettings, chooseMap, type SampledRows } from "./cluster-choice.js";

const settings: ClusterSettings = {
  mode: "auto",
  alpha: "auto",
  clusters: "auto",
  dimensions: "auto",
  tau: 30,
  seed: 0,
};

/** Logits of four classes around a corner for each of two kinds of samples, and what they should have been. */
function makeRows(count: number, wanted: (logits: readonly number[], kind: number) => readonly number[]): SampledRows {
  const random = createRandom(1);
  const noise = () => random.next() / 2 ** 32 - 0.5;
  const current = Array.from({ length: count }, (_, row) => {
    const corner = row % 3 === 0 ? [4, 0, -1, 0] : [-1, 0, 4, 1];
    return corner.map((value) => value + noise());
  });
  const float = current.map((logits, row) => wanted(logits, row % 3 === 0 ? 0 : 1));
  const flat = (rows: readonly (readonly number[])[]) => Float64Array.from(rows.flat());
  return {
    columns: 4,
    current: flat(current),
    float: flat(float),
    samples: Array.from({ length: count }, (_, i) => i),
  };
}

function noiseSource(seed: number, size: number) {
  const random = createRandom(seed);
  return () => (random.next() / 2 ** 32 - 0.5) * size;
}

describe("chooseMap", () => {
  it("takes one constant where every sample lacks the same", () => {
    const choice = chooseMap(
      makeRows(120, (logits) => logits.map((value, i) => value + [1, -1, 0, 0.5][i])),
      settings,
    );
    if (choice.kind === "none") throw new Error(choice.reason);
    expect(choice.about).toBe("global bias, alpha 1");
    expect(choice.map).toMatchObject({ slopes: undefined, scores: undefined });
    expect([...choice.map.offsets].map((value) => value.toFixed(9))).toEqual([1, -1, 0, 0.5].map((v) => v.toFixed(9)));
    expect(choice.after).toBeLessThan(1e-9);
    expect(choice.before).toBeGreaterThan(0.01);
  });

  it("takes constants per cluster where the clusters lack something else", () => {
    const rows = makeRows(240, (logits, kind) => logits.map((value, i) => value + [1.5, 1, 0, 0][(i + kind) % 4]));
    const choice = chooseMap(rows, { ...settings, clusters: 2, tau: 0 });
    if (choice.kind === "none") throw new Error(choice.reason);
    expect(choice.about).toBe("cluster bias of 2 clusters, alpha 1");
    expect(choice.after).toBeLessThan(1e-9);
  });

  it("takes lines where the outputs are too flat", () => {
    const noise = noiseSource(3, 0.1);
    const rows = makeRows(240, (logits) => logits.map((value) => 2 * value + noise()));
    const choice = chooseMap(rows, settings);
    expect(choice).toMatchObject({ kind: "found" });
    if (choice.kind === "found") {
      expect(choice.about).toMatch(/^cluster affine/);
      expect(choice.after).toBeLessThan(0.1 * choice.before);
    }
  });

  it("takes nothing, and says so with numbers, where the difference is noise", () => {
    const noise = noiseSource(5, 3);
    const rows = makeRows(40, (logits) => logits.map((value) => value + noise()));
    const mean = (i: number) =>
      rows.float.reduce((sum, v, at) => sum + (at % 4 === i ? v - rows.current[at] : 0), 0) / 40;
    const means = [0, 1, 2, 3].map(mean);
    // Without even a mean that could be fitted.
    const float = rows.float.map((value, at) => value - means[at % 4]);
    const choice = chooseMap({ ...rows, float }, { ...settings, mode: "bias" });
    expect(choice).toMatchObject({ kind: "none" });
    if (choice.kind === "none") {
      expect(choice.reason).toMatch(
        /^nothing lowers its divergence .*: [\d.]+ nats as it is, [\d.]+ with cluster bias/,
      );
    }
  });

  it("takes nothing that raises the squared error", () => {
    // A softmax does not see that one sample lies far off, but the mean error does: of outputs that are no logits.
    const rows = makeRows(8, (logits) => logits.map((value, i) => value + [1, -1, 0, 0.5][i]));
    const bias = { ...settings, mode: "bias", clusters: 1 } as const;
    expect(chooseMap(rows, bias)).toMatchObject({ kind: "found" });
    const current = rows.current.map((value, i) => (i < 4 ? value + 1e4 : value));
    const choice = chooseMap({ ...rows, current }, bias);
    if (choice.kind === "found") throw new Error(choice.about);
    expect(choice.reason).toMatch(/^nothing lowers/);
  });

  it("needs samples to hold back, not only rows", () => {
    const rows = { ...makeRows(40, (logits) => logits.map((v) => v + 1)), samples: new Array(40).fill(0) };
    expect(chooseMap(rows, settings)).toEqual({
      kind: "none",
      reason: "has rows of 1 samples, and it takes 4 to hold some back",
    });
  });

  it("does what it is told: form, part of the way, clusters", () => {
    const rows = makeRows(120, (logits) => logits.map((value, i) => 1.5 * value + [1, -1, 0, 0.5][i]));
    const choice = chooseMap(rows, { ...settings, mode: "affine", alpha: 0.4, clusters: 3, dimensions: 2, tau: 0 });
    if (choice.kind === "none") throw new Error(choice.reason);
    expect(choice.about).toBe("cluster affine of 3 clusters, alpha 0.4");
    expect([...(choice.map.slopes ?? [])].map((slope) => slope.toFixed(9))).toEqual(new Array(12).fill("1.200000000"));
  });
});
